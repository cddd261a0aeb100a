// Curves over epochs, with what happened in between.

const LINES = {
  ...plain,
  mark: "line",
  extent(plot) {
    const at = plot.spec.at;
    const x = at.length > 1 ? [at[0], at[at.length - 1]] : [(at[0] ?? 1) - 1, (at[0] ?? 1) + 1];
    return { x, y: this.fit(plot, x) };
  },
  fit(plot, [low, high]) {
    const seen = (_, n) => plot.spec.at[n] >= low && plot.spec.at[n] <= high;
    return span(plot.series().flatMap((series) => series.values.filter(seen)));
  },
  draw(plot) {
    const unit = plot.spec.unit;
    const xs = ticks(plot.limits.x, plot.width / 80).filter(Number.isInteger);
    plot.grid(
      xs,
      ticks(plot.limits.y, 4),
      (v) => written(v),
      (v) => written(v) + (unit === "%" ? "%" : ""),
    );
    plot.spec.marks.forEach(([at, text], number) => {
      const x = plot.x(at);
      const { top, bottom, left, right } = plot.box;
      if (x < left || x > right) return;
      const end = x > (left + right) / 2;
      plot.marks.append(shape("line", { class: "mark", x1: x, x2: x, y1: top, y2: bottom }));
      plot.above.before(
        shape(
          "text",
          {
            class: `mark ${end ? "end" : ""}`,
            x: x + (end ? -5 : 5),
            y: top + 8 + 13 * (number % 3),
          },
          tail(text, 26),
        ),
      );
    });
    for (const series of plot.series()) {
      let path = "";
      let pen = "M";
      series.values.forEach((value, n) => {
        if (value === null) return void (pen = "M");
        path += `${pen}${plot.x(plot.spec.at[n]).toFixed(1)},${plot.y(value).toFixed(1)}`;
        pen = "L";
        const alone =
          (series.values[n - 1] ?? null) === null && (series.values[n + 1] ?? null) === null;
        if (alone)
          plot.marks.append(
            shape("circle", {
              class: `dot c${series.number % 6}`,
              cx: plot.x(plot.spec.at[n]),
              cy: plot.y(value),
              r: 3,
            }),
          );
      });
      plot.marks.append(shape("path", { class: `curve c${series.number % 6}`, d: path }));
    }
  },
  stops(plot) {
    const series = plot.series();
    return plot.spec.at.map((at, n) => ({
      x: plot.x(at),
      y: null,
      title: `${plot.spec.x} ${written(at)}`,
      rows: series.map(({ name, number, values }) => [
        `line c${number % 6}`,
        name,
        withUnit(values[n], plot.spec.unit),
      ]),
      dots: series
        .filter(({ values }) => (values[n] ?? null) !== null)
        .map(({ number, values }) => [`c${number % 6}`, plot.x(at), plot.y(values[n])]),
    }));
  },
};

function withUnit(value, unit) {
  return (
    written(value) +
    (unit && value !== null && value !== undefined ? (unit === "%" ? "%" : ` ${unit}`) : "")
  );
}
