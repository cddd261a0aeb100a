// What all kinds of plots have in common; heat.js lists the kinds.
//
// A kind tells the extent of its values, draws its marks, and lists the stops that can be read. It
// zooms along the axes of `zooms`.

const plain = {
  zooms: "x",
  names: true,
  height: (plot) => (plot.width < 480 ? 220 : 260),
  legend(plot) {
    const names = plot.spec.series.map((series) => series.name);
    if (names.length < 2) return;
    switches(plot.legend, names, plot.shared.hidden, () => plot.draw(), plot.kind.mark ?? "");
    plot.spec.series.forEach((series, number) => {
      if (series.faint) plot.legend.children[number].querySelector("i").classList.add("faint");
    });
  },
  margin(plot, limits) {
    const percent = plot.spec.unit === "%" ? "%" : "";
    const labels = ticks(limits.y, 4).map((value) => written(value) + percent);
    const left = 14 + LETTER * Math.max(...labels.map((label) => label.length));
    return { left, right: 10, top: 24, bottom: 38 };
  },
};

function inside(plot, x) {
  return x >= plot.box.left && x <= plot.box.right;
}
