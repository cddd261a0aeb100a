// The page as a whole: theme, sections in the bar, plots as they come into sight, copying.

const FIRST = 12; // histograms that are shown before more are asked for

document.documentElement.classList.add("scripted");

document.querySelector(".theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = dark === "dark" ? "light" : "dark";
});

document.querySelectorAll("table.sortable").forEach(sortable);

const pictures = document.getElementById("pictures");
if (pictures) new Compare(pictures, data.compare);

const weights = { hidden: new Set(), heights: "share", drawn: [] };

document.querySelectorAll(".plot:not(.small)").forEach((figure) => new Plot(figure, data.plots[Number(figure.dataset.plot)]));

/** Small plots, of which there may be hundreds, are drawn when they come near. */
const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      weights.drawn.push(new Plot(target, data.plots[Number(target.dataset.plot)], weights));
    }
  },
  { rootMargin: "400px" },
);
document.querySelectorAll(".plot.small").forEach((figure) => near.observe(figure));

const section = document.getElementById("weights");
if (section) {
  const redraw = () => weights.drawn.forEach((plot) => plot.look(plot.kind.extent(plot)));
  const figures = [...section.querySelectorAll("[data-plot]")];
  const find = section.querySelector("#weights-find");
  const more = section.querySelector("#weights-all");
  let all = figures.length <= FIRST;
  const choose = () => {
    const words = find.value.trim().toLowerCase();
    const fit = figures.filter((figure) => figure.querySelector("figcaption").textContent.toLowerCase().includes(words));
    figures.forEach((figure) => (figure.hidden = true));
    (all || words ? fit : fit.slice(0, FIRST)).forEach((figure) => (figure.hidden = false));
    more.hidden = all || Boolean(words);
  };
  more.textContent = `Show all ${figures.length} layers`;
  more.addEventListener("click", () => ((all = true), choose()));
  find.addEventListener("input", choose);
  switches(section.querySelector("#weights-legend"), data.compare.models, weights.hidden, redraw);
  section.querySelectorAll("[data-heights]").forEach((node) =>
    node.addEventListener("click", () => {
      weights.heights = node.dataset.heights;
      for (const other of section.querySelectorAll("[data-heights]")) other.setAttribute("aria-pressed", String(other === node));
      redraw();
    }),
  );
  choose();
}

const links = [...document.querySelectorAll(".bar nav a")];
const reading = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const link of links) {
        const here = link.hash === `#${target.id}`;
        if (here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        if (here) link.parentElement.scrollTo({ left: link.offsetLeft - link.parentElement.offsetLeft - 48 });
      }
    }
  },
  { rootMargin: "-20% 0px -75% 0px" },
);
document.querySelectorAll("main > section").forEach((part) => reading.observe(part));

document.querySelectorAll(".copy").forEach((node) =>
  node.addEventListener("click", async () => {
    const code = node.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      node.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      node.textContent = "Selected";
    }
    setTimeout(() => (node.textContent = "Copy"), 1500);
  }),
);
