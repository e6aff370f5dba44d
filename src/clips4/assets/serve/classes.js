// The classes that are looked for, and their legend: switch, recolor, rename, group, only one, remove.

import { classColors, hex } from "./colors.js";
import { button, make, percent } from "./elements.js";

/** @typedef {import("./types.js").LegendEntry} LegendEntry */
/** @typedef {import("./types.js").ClassRequest} ClassRequest */
/** @typedef {{name: string, queried: string[] | null, on: boolean, color: number[], chosen?: boolean}} Entry */

/** @param {string} text */
const fromHex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));

export class ClassList {
  /**
   * @param {HTMLUListElement} legend
   * @param {HTMLUListElement} unknownList
   * @param {{changed: () => void, redraw: () => void, problem: (text: string) => void}} actions "changed" asks anew,
   *   "redraw" only draws
   */
  constructor(legend, unknownList, actions) {
    this.legend = legend;
    this.unknownList = unknownList;
    this.actions = actions;
    /** @type {Entry[]} */
    this.entries = [];
    /** @type {string | null} */
    this.only = null;
    /** @type {Set<Entry>} */
    this.open = new Set();
  }

  /** @param {ClassRequest[]} classes */
  replace(classes) {
    this.entries = [];
    this.only = null;
    for (const each of classes) this.push(each.name, each.queried);
  }

  /**
   * @param {string} name
   * @param {string[] | null} queried
   */
  push(name, queried) {
    this.entries.push({ name, queried, on: true, color: [] });
    this.recolor();
  }

  /** Colors by name, but for those that were chosen by hand. */
  recolor() {
    const colors = classColors(this.entries.map(({ name }) => name));
    for (const [index, entry] of this.entries.entries()) if (!entry.chosen) entry.color = colors[index];
  }

  /**
   * Names as they are typed: "cat, sofa" are two classes, "house: wall, brick" is one of two names.
   * @param {string} text
   * @returns {boolean} whether any class is new
   */
  add(text) {
    const group = text.indexOf(":");
    /** @type {[string, string[] | null][]} */
    const given =
      group > 0
        ? [[text.slice(0, group).trim(), text.slice(group + 1).split(",").map((part) => part.trim()).filter(Boolean)]]
        : text.split(",").map((part) => /** @type {[string, null]} */ ([part.trim(), null]));
    let added = false;
    for (const [name, queried] of given) {
      if (!name) continue;
      if (name.toLowerCase() === "unknown") this.actions.problem("unknown is not a class name; it is what fits none");
      else if (this.find(name)) this.actions.problem(`${name} is in the list`);
      else {
        this.push(name, queried?.length ? queried : null);
        added = true;
      }
    }
    return added;
  }

  /** @param {string} name */
  find(name) {
    return this.entries.find((each) => each.name.toLowerCase() === name.toLowerCase());
  }

  /** @returns {ClassRequest[]} */
  requests() {
    return this.entries.filter((each) => each.on).map(({ name, queried }) => ({ name, queried }));
  }

  /**
   * @param {LegendEntry[]} legend of an image
   * @returns {Map<number, number[]>} label -> color, of those that are shown
   */
  colors(legend) {
    /** @type {Map<number, number[]>} */
    const found = new Map();
    for (const each of legend) {
      if (this.only !== null && each.name !== this.only) continue;
      found.set(each.label, this.find(each.name)?.color ?? each.color);
    }
    return found;
  }

  /** @param {LegendEntry[]} legend of the image that is shown */
  render(legend) {
    const focused = document.activeElement?.getAttribute("data-focus");
    const entryOf = new Map(legend.map((each) => [each.name, each]));
    this.legend.replaceChildren(...this.entries.map((each) => this.row(each, entryOf.get(each.name))));
    const unknown = legend.filter((each) => each.label < 0).sort((a, b) => b.share - a.share);
    this.unknownList.replaceChildren(...unknown.map((each) => this.unknownRow(each)));
    const again = focused && document.querySelector(`[data-focus=${JSON.stringify(focused)}]`);
    if (again instanceof HTMLElement) again.focus();
  }

  /**
   * @param {Entry} entry
   * @param {LegendEntry | undefined} found
   */
  row(entry, found) {
    const on = make("input", { type: "checkbox", "aria-label": `look for ${entry.name}`, "data-focus": `on ${entry.name}` });
    on.checked = entry.on;
    on.addEventListener("change", () => {
      entry.on = on.checked;
      this.actions.changed();
    });
    const color = make("input", { type: "color", value: hex(entry.color), "aria-label": `color of ${entry.name}` });
    color.addEventListener("input", () => {
      Object.assign(entry, { color: fromHex(color.value), chosen: true });
      this.actions.redraw();
    });
    const share = make("span", { class: "share", text: found && entry.on ? percent(found.share) : "" });
    const called = make("span", { class: "called", text: entry.name });
    const more = button("⋯", () => {
      if (this.open.has(entry)) this.open.delete(entry);
      else this.open.add(entry);
      details.hidden = !this.open.has(entry);
      more.setAttribute("aria-expanded", String(!details.hidden));
    });
    const details = this.details(entry, found);
    details.hidden = !this.open.has(entry);
    more.setAttribute("aria-expanded", String(!details.hidden));
    more.setAttribute("aria-label", `more about ${entry.name}`);
    more.setAttribute("data-focus", `more ${entry.name}`);
    const row = make("div", { class: "entry" }, on, color, called, share, more);
    return make("li", { class: entry.on ? "" : "off" }, row, details);
  }

  /**
   * @param {Entry} entry
   * @param {LegendEntry | undefined} found
   */
  details(entry, found) {
    const by = { prototype: "a class of the run", bank: "found by its name", text: "its name alone", examples: "with examples", missing: "no name of this page: mark examples of it" };
    const source = found ? (by[/** @type {keyof typeof by} */ (found.source)] ?? "") : "";
    const name = make("input", { value: entry.name, maxlength: "200" });
    name.addEventListener("change", () => {
      const other = this.find(name.value.trim());
      if (!name.value.trim() || (other && other !== entry)) return this.actions.problem("give a name that no other class has");
      entry.queried = entry.queried ?? [entry.name];
      if (this.only === entry.name) this.only = name.value.trim();
      entry.name = name.value.trim();
      this.actions.changed();
    });
    const stands = make("input", { value: (entry.queried ?? [entry.name]).join(", ") });
    stands.addEventListener("change", () => {
      entry.queried = stands.value.split(",").map((part) => part.trim()).filter(Boolean);
      this.actions.changed();
    });
    const only = button(this.only === entry.name ? "Show all classes" : "Show only this", () => {
      this.only = this.only === entry.name ? null : entry.name;
      this.actions.redraw();
    });
    const remove = button("Remove", () => {
      this.entries = this.entries.filter((each) => each !== entry);
      if (this.only === entry.name) this.only = null;
      this.actions.changed();
    });
    return make(
      "div",
      { class: "details" },
      ...(source ? [make("span", { class: "hint", text: source })] : []),
      make("label", {}, "name", name),
      make("label", {}, "stands for (several names make a group)", stands),
      make("div", { class: "chips" }, only, remove),
    );
  }

  /** @param {LegendEntry} found */
  unknownRow(found) {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = hex(found.color);
    const row = make(
      "li",
      {},
      make(
        "div",
        { class: "entry" },
        swatch,
        make("span", { class: "called", text: found.name }),
        make("span", { class: "share", text: percent(found.share) }),
      ),
    );
    if (found.suggested?.length) {
      const names = found.suggested.map((name) => {
        const add = button(name, () => this.add(name) && this.actions.changed(), "link");
        add.setAttribute("aria-label", `add ${name}, suggested for ${found.name}`);
        return add;
      });
      row.append(make("div", { class: "maybe" }, "maybe ", ...names.flatMap((each, i) => (i ? [", ", each] : [each]))));
    }
    return row;
  }
}
