// Class names typed with completion: a combobox as the ARIA practices describe it.

import { make } from "./elements.js";

const SHOWN = 8;

/**
 * @param {HTMLInputElement} input
 * @param {HTMLUListElement} list
 * @param {HTMLButtonElement} add
 * @param {(text: string) => void} onAdd called with what was typed or chosen
 * @returns {(names: string[]) => void} sets the names to complete
 */
export function combobox(input, list, add, onAdd) {
  /** @type {string[]} */
  let names = [];
  let active = -1;

  const options = () => /** @type {HTMLLIElement[]} */ ([...list.children]);

  /** @param {number} index */
  function activate(index) {
    active = index;
    for (const [i, option] of options().entries()) option.setAttribute("aria-selected", String(i === index));
    if (index >= 0) input.setAttribute("aria-activedescendant", options()[index].id);
    else input.removeAttribute("aria-activedescendant");
    options()[index]?.scrollIntoView({ block: "nearest" });
  }

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate(-1);
  }

  function complete() {
    const typed = input.value.slice(input.value.lastIndexOf(",") + 1).trim().toLowerCase();
    const first = names.filter((name) => name.toLowerCase().startsWith(typed));
    const inside = names.filter((name) => name.toLowerCase().includes(` ${typed}`));
    const found = typed ? [...new Set([...first, ...inside])].slice(0, SHOWN) : [];
    list.replaceChildren(
      ...found.map((name, i) => make("li", { role: "option", id: `completion-${i}`, "aria-selected": "false", text: name })),
    );
    list.hidden = !found.length;
    input.setAttribute("aria-expanded", String(found.length > 0));
    activate(-1);
  }

  /** @param {string} chosen */
  function take(chosen) {
    const before = input.value.slice(0, input.value.lastIndexOf(",") + 1);
    submit(before ? `${before} ${chosen}` : chosen);
  }

  /** @param {string} text */
  function submit(text) {
    close();
    if (!text.trim()) return;
    input.value = "";
    onAdd(text);
  }

  input.addEventListener("input", complete);
  input.addEventListener("blur", () => setTimeout(close, 150));
  input.addEventListener("keydown", (event) => {
    const count = options().length;
    if (event.key === "ArrowDown" && count) activate((active + 1) % count);
    else if (event.key === "ArrowUp" && count) activate((active <= 0 ? count : active) - 1);
    else if (event.key === "Escape") close();
    else if (event.key === "Enter") {
      if (active >= 0) take(options()[active].textContent ?? "");
      else submit(input.value);
    } else return;
    event.preventDefault();
  });
  list.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    const option = event.target instanceof Element ? event.target.closest("li") : null;
    if (option) take(option.textContent ?? "");
  });
  add.addEventListener("click", () => submit(input.value));
  return (given) => {
    names = given;
  };
}
