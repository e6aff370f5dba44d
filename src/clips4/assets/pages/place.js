// What is at a place of an image, for a pointer, a finger and the arrow keys. An element with data-grid ("WxH:NUMBERxCOUNT
// ...", rows of runs) holds images of that grid; #names has the names of the numbers, and without it they are regions.
"use strict";
(() => {
  const STEP = 1 / 24;  // of a side, that an arrow key moves by
  const tip = document.createElement("output"), spot = document.createElement("span");
  tip.id = "place";
  spot.id = "spot";
  tip.hidden = spot.hidden = true;
  document.body.append(tip, spot);
  const given = document.getElementById("names");
  const names = given && JSON.parse(given.dataset.names);
  const grids = new WeakMap();
  let keyboard = { holder: null, x: 0.5, y: 0.5 }, pointer = "mouse";

  function gridOf(holder) {
    if (!grids.has(holder)) {
      const [size, runs] = holder.dataset.grid.split(":");
      const [width, height] = size.split("x").map(Number);
      const numbers = new Int32Array(width * height), counts = new Map();
      let place = 0;
      for (const run of runs.split(" ")) {
        const [number, count] = run.split("x").map(Number);
        numbers.fill(number, place, place += count);
        counts.set(number, (counts.get(number) ?? 0) + count);
      }
      grids.set(holder, { width, height, numbers, counts });
    }
    return grids.get(holder);
  }

  function textAt(holder, x, y) {
    const { width, height, numbers, counts } = gridOf(holder);
    const column = Math.min(width - 1, Math.floor(x * width)), row = Math.min(height - 1, Math.floor(y * height));
    const number = numbers[row * width + column];
    const unknown = names && number >= names.length;
    const name = !names ? `region ${number + 1}` : !unknown ? names[number]
      : number === names.length ? "unknown" : `unknown ${number - names.length}`;
    if (names) return name;
    const share = 100 * counts.get(number) / numbers.length;
    return `${name}, ${share.toFixed(share < 10 ? 1 : 0)} % of the image`;
  }

  function show(holder, image, x, y, marked) {
    const box = image.getBoundingClientRect();
    const left = box.left + x * box.width, top = box.top + y * box.height;
    tip.value = textAt(holder, x, y);
    tip.hidden = false;
    spot.hidden = !marked;
    spot.style.left = `${left}px`;
    spot.style.top = `${top}px`;
    const away = pointer === "touch" ? 40 : 16;  // a finger hides what is below it
    const above = top - away - tip.offsetHeight;
    tip.style.left = `${Math.max(4, Math.min(left + 12, innerWidth - tip.offsetWidth - 4))}px`;
    tip.style.top = `${above > 4 ? above : top + away}px`;
  }

  function hide() { tip.hidden = spot.hidden = true; }

  function point(event) {
    const image = event.target instanceof Element && event.target.closest("[data-grid] img");
    const holder = image && image.closest("[data-grid]");
    if (!holder) return hide();
    const box = image.getBoundingClientRect();
    show(holder, image, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, false);
  }

  document.addEventListener("pointerdown", (event) => { pointer = event.pointerType; point(event); });
  document.addEventListener("pointermove", (event) => { pointer = event.pointerType; point(event); });
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("click", (event) => {  // a finger looks; the name below the image is the link
    if (pointer === "touch" && event.target instanceof Element && event.target.closest("[data-grid] a img")) event.preventDefault();
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    const holder = event.target instanceof Element && event.target.closest("[data-grid]");
    if (event.key === "Escape") hide();
    if (!move || !holder || event.target.closest("figcaption")) return;
    const image = Array.from(holder.querySelectorAll("img")).find((each) => each.offsetWidth > 0);
    if (!image) return;
    event.preventDefault();
    if (keyboard.holder !== holder) keyboard = { holder, x: 0.5, y: 0.5 };
    keyboard.x = Math.max(0, Math.min(0.999, keyboard.x + move[0]));
    keyboard.y = Math.max(0, Math.min(0.999, keyboard.y + move[1]));
    pointer = "keyboard";
    show(holder, image, keyboard.x, keyboard.y, true);
  });
  document.body.dataset.ready = "";
})();
