// The page as a whole: theme, tables, pictures, plots, sections in the bar, copying.

document.documentElement.classList.add("scripted");

document.querySelector(".theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark =
    root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = dark === "dark" ? "light" : "dark";
});

document.querySelectorAll("table.sortable").forEach(sortable);

const pictures = document.getElementById("pictures");
if (pictures) new Compare(pictures, data.compare);

for (const figure of document.querySelectorAll(".plot:not(.small)")) {
  new Plot(figure, data.plots[Number(figure.dataset.plot)]);
}

const nav = document.querySelector(".bar nav");
const links = [...nav.querySelectorAll("a")];
const reading = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      const here = links.find((link) => link.hash === `#${target.id}`);
      links.forEach((link) => link.removeAttribute("aria-current"));
      here?.setAttribute("aria-current", "true");
      nav.scrollTo({ left: here ? here.offsetLeft - nav.offsetLeft - 48 : 0 });
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
