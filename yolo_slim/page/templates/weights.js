// The small histograms of weights: drawn as they come near, chosen by name, all switched at once.

const FIRST = 12; // histograms that are shown before more are asked for

const weights = { hidden: new Set(), heights: "share", drawn: [] };

/** Small plots, of which there may be hundreds, are drawn when they come near, or are printed. */
function drawSmall(figure) {
  near.unobserve(figure);
  if (figure.querySelector(".canvas")) return;
  weights.drawn.push(new Plot(figure, data.plots[Number(figure.dataset.plot)], weights));
}

const near = new IntersectionObserver(
  (entries) =>
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawSmall(entry.target)),
  { rootMargin: "400px" },
);
const small = [...document.querySelectorAll(".plot.small")];
small.forEach((figure) => near.observe(figure));
addEventListener("beforeprint", () => small.filter((figure) => !figure.hidden).forEach(drawSmall));

const section = document.getElementById("weights");
if (section) {
  const redraw = () => weights.drawn.forEach((plot) => plot.look(plot.kind.extent(plot)));
  const find = section.querySelector("#weights-find");
  const more = section.querySelector("#weights-all");
  let all = small.length <= FIRST;
  const choose = () => {
    const words = find.value.trim().toLowerCase();
    const fit = small.filter((figure) =>
      figure.querySelector("figcaption").textContent.toLowerCase().includes(words),
    );
    small.forEach((figure) => (figure.hidden = true));
    (all || words ? fit : fit.slice(0, FIRST)).forEach((figure) => (figure.hidden = false));
    more.hidden = all || Boolean(words);
  };
  more.textContent = `Show all ${small.length} layers`;
  more.addEventListener("click", () => ((all = true), choose()));
  find.addEventListener("input", choose);
  switches(section.querySelector("#weights-legend"), data.compare.models, weights.hidden, redraw);
  section.querySelectorAll("[data-heights]").forEach((node) =>
    node.addEventListener("click", () => {
      weights.heights = node.dataset.heights;
      for (const other of section.querySelectorAll("[data-heights]"))
        other.setAttribute("aria-pressed", String(other === node));
      redraw();
    }),
  );
  choose();
}
