"use strict";
(() => {
  const main = document.getElementById("cards"), form = document.getElementById("controls");
  const cards = Array.from(main.children, (figure, place) => ({
    figure, place, unknown: Number(figure.dataset.unknown),
    shares: new Map(figure.dataset.classes.split(" ").filter(Boolean).map((pair) => pair.split(":"))),
  }));
  const orders = {
    name: (a, b) => a.place - b.place,
    most: (a, b) => b.unknown - a.unknown || a.place - b.place,
    least: (a, b) => a.unknown - b.unknown || a.place - b.place,
    class: (a, b) => b.chosen - a.chosen || a.place - b.place,
  };
  let order = "name";

  function show() {
    main.className = form.elements.layer.value;
    const wanted = Array.from(form.querySelectorAll(".classes input:checked"), (input) => input.value);
    const least = Number(document.getElementById("unknown").value);
    document.getElementById("least").value = `${least} %`;
    let shown = 0;
    for (const card of cards) {
      const here = wanted.every((name) => card.shares.has(name)) && 100 * card.unknown >= least;
      card.chosen = wanted.reduce((sum, name) => sum + Number(card.shares.get(name) || 0), 0);
      card.figure.hidden = !here;
      shown += here ? 1 : 0;
    }
    const chosenOrder = document.getElementById("sort").value;
    if (chosenOrder !== order || chosenOrder === "class") {
      main.append(...[...cards].sort(orders[chosenOrder]).map((card) => card.figure));
      order = chosenOrder;
    }
    document.getElementById("shown").value = `${shown} of ${cards.length} ${cards.length === 1 ? "image" : "images"}`;
  }

  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key !== " " || /^(INPUT|SELECT|BUTTON|A)$/.test(event.target.tagName)) return;
    event.preventDefault();
    form.elements.layer.value = main.className === "prediction" ? "image" : "prediction";
    show();
  });
  show();
})();
