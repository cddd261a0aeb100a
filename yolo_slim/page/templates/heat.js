// A table of colours: a row a layer, a column a share that is cut of it.

const HEAT = {
  ...plain,
  zooms: "y",
  names: false,
  height: (plot) => Math.min(700, Math.max(120, plot.spec.names.length * 16)) + 46,
  labels: (plot) => (plot.width < 480 ? bare(plot.spec.names) : plot.spec.names),
  letters(plot) {
    const longest = Math.max(4, ...this.labels(plot).map((name) => name.length));
    return Math.min(plot.width < 480 ? 15 : 28, longest);
  },
  margin(plot) {
    return { left: 12 + LETTER * this.letters(plot), right: 4, top: 6, bottom: 40 };
  },
  most: (plot) =>
    Math.max(
      1e-9,
      ...plot.spec.values.flat().map((value) => (value === null ? 0 : plot.spec.dense - value)),
    ),
  legend(plot) {
    const most = (100 * this.most(plot)).toFixed(1);
    plot.legend.append(
      element(
        "li",
        { class: "ramp" },
        "0",
        element("i", { class: "gradient" }),
        `${most} points lost`,
      ),
      element("li", {}, element("i", { class: "swatch gain" }), "gained"),
    );
  },
  extent: (plot) => ({
    x: [-0.5, plot.spec.columns.length - 0.5],
    y: [0.5 - plot.spec.names.length, 0.5],
  }),
  draw(plot) {
    const { columns } = plot.spec;
    const high = Math.abs(plot.y(1) - plot.y(0));
    const every = Math.ceil(12 / high);
    const { left, bottom, right, top } = plot.box;
    this.labels(plot).forEach((name, n) => {
      const y = plot.y(-n);
      if (n % every || y < top || y > bottom) return;
      const look = high < 14 ? "end tight" : "end";
      plot.axes.append(
        shape("text", { x: left - 8, y: y + 3.5, class: look }, tail(name, this.letters(plot))),
      );
    });
    const wide = plot.x(1) - plot.x(0);
    const step = Math.ceil(34 / wide);
    columns.forEach((text, n) => {
      if (n % step === 0) plot.axes.append(plot.below(plot.x(n), 16, text));
    });
    plot.axes.append(plot.name());
    const most = this.most(plot);
    this.each(plot, (value, cell) => {
      const lost = value === null ? 0 : plot.spec.dense - value;
      const rect = shape("rect", {
        class: value === null ? "cell none" : lost < 0 ? "cell gain" : "cell",
        ...cell,
      });
      rect.style.fillOpacity =
        value === null ? 1 : (lost < 0 ? 0.3 : 0.05) + 0.95 * Math.min(1, Math.abs(lost) / most);
      plot.marks.append(rect);
    });
  },
  /** Call with each value, the place of its cell and its row and column. */
  each(plot, call) {
    const high = Math.abs(plot.y(1) - plot.y(0));
    const wide = plot.x(1) - plot.x(0);
    const gap = high > 8 ? 1 : 0;
    plot.spec.values.forEach((row, n) =>
      row.forEach((value, column) => {
        const cell = {
          x: plot.x(column) - wide / 2,
          y: plot.y(-n) - high / 2,
          width: Math.max(1, wide - gap),
          height: Math.max(1, high - gap),
        };
        call(value, cell, n, column);
      }),
    );
  },
  row: (plot) => plot.spec.columns.length,
  stops(plot) {
    const stops = [];
    this.each(plot, (value, cell, n, column) => {
      const rows = [["", "mAP50-95", written(value, 3)]];
      if (value !== null) rows.push(["", "change", `${points(value - plot.spec.dense)} points`]);
      stops.push({
        x: cell.x + cell.width / 2,
        y: cell.y + cell.height / 2,
        cell,
        title: plot.spec.names[n],
        rows: [["", "cut", plot.spec.columns[column]], ...rows],
      });
    });
    return stops;
  },
};

const KINDS = { lines: LINES, bars: BARS, histogram: HISTOGRAM, scatter: SCATTER, heat: HEAT };
