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

const links = [...document.querySelectorAll(".bar nav a")];
const reading = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const link of links) {
        const here = link.hash === `#${target.id}`;
        if (here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
        if (here)
          link.parentElement.scrollTo({
            left: link.offsetLeft - link.parentElement.offsetLeft - 48,
          });
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
