// How values are spread, one shape a model.

const HISTOGRAM = {
  ...plain,
  names: false,
  height: () => 130,
  margin: () => ({ left: 8, right: 8, top: 8, bottom: 24 }),
  heights(plot) {
    return plot.series().map((series) => {
      const all = series.values.reduce((sum, value) => sum + value, 0) || 1;
      const share = plot.shared.heights !== "number";
      return { ...series, all, tops: series.values.map((value) => (share ? value / all : value)) };
    });
  },
  extent(plot) {
    const most = Math.max(0, ...this.heights(plot).flatMap(({ tops }) => tops));
    return { x: plot.spec.ends, y: [0, most * 1.05 || 1] };
  },
  edge(plot, n, bins) {
    const [low, high] = plot.spec.ends;
    return low + ((high - low) * n) / bins;
  },
  draw(plot) {
    plot.grid(
      ticks(plot.limits.x, 4),
      [],
      (v) => written(v),
      () => "",
    );
    const zero = plot.x(0);
    if (inside(plot, zero))
      plot.axes.append(
        shape("line", { x1: zero, x2: zero, y1: plot.box.top, y2: plot.box.bottom }),
      );
    for (const { tops, number } of this.heights(plot)) {
      const path = tops.map((top, n) => {
        const y = plot.y(top).toFixed(1);
        return `L${plot.x(this.edge(plot, n, tops.length)).toFixed(1)},${y}L${plot.x(this.edge(plot, n + 1, tops.length)).toFixed(1)},${y}`;
      });
      const [start, end] = [0, tops.length].map((n) =>
        plot.x(this.edge(plot, n, tops.length)).toFixed(1),
      );
      const d = `M${start},${plot.box.bottom}${path.join("")}L${end},${plot.box.bottom}`;
      plot.marks.append(shape("path", { class: `area c${number % 6}`, d }));
    }
    plot.spec.series.forEach((series, number) => {
      if (series !== null || plot.shared.hidden.has(number)) return;
      plot.above.before(
        shape(
          "text",
          { class: "end mark", x: plot.box.right, y: plot.box.top + 10 + 13 * number },
          `gone ${data.compare.models[number] ?? ""}`.slice(0, 40),
        ),
      );
    });
  },
  stops(plot) {
    const series = this.heights(plot);
    const bins = series[0]?.values.length ?? 0;
    return Array.from({ length: bins }, (_, n) => ({
      x: (plot.x(this.edge(plot, n, bins)) + plot.x(this.edge(plot, n + 1, bins))) / 2,
      y: null,
      title: `${written(this.edge(plot, n, bins), 3)} to ${written(this.edge(plot, n + 1, bins), 3)}`,
      rows: series.map(({ name, number, values, all }) => [
        `c${number % 6}`,
        name,
        `${values[n].toLocaleString("en")} (${((100 * values[n]) / all).toFixed(1)}%)`,
      ]),
    }));
  },
};
