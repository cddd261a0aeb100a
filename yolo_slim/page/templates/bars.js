// Bars side by side, or over each other: steps of a recovery, channels of layers.

const BARS = {
  ...plain,
  extent(plot) {
    const x = [-0.5, Math.max(1, plot.spec.names.length) - 0.5];
    return { x, y: this.fit(plot, x) };
  },
  fit(plot, [low, high]) {
    const seen = (_, n) => n + 0.5 > low && n - 0.5 < high;
    const most = Math.max(0, ...plot.series().flatMap((series) => series.values.filter(seen)));
    return [0, most * 1.1 || 1];
  },
  draw(plot) {
    const { names, notes, over } = plot.spec;
    const wide = Math.abs(plot.x(1) - plot.x(0));
    const letters = Math.max(over ? 10 : 8, Math.min(18, Math.floor((wide - 4) / LETTER)));
    const lines = over
      ? bare(names).map((name) => [tail(name, letters)])
      : names.map((name) => folded(name, letters));
    const longest = Math.max(1, ...lines.flat().map((line) => line.length));
    const every = Math.ceil((LETTER * longest + (over ? 12 : 0)) / wide);
    const shown = names.map((_, n) => n).filter((n) => n % every === 0 && inside(plot, plot.x(n)));
    plot.grid(
      shown,
      ticks(plot.limits.y, 4),
      (n) => lines[n][0],
      (v) => written(v),
    );
    for (const n of shown.filter((n) => lines[n][1])) {
      plot.axes.append(plot.below(plot.x(n), 30, lines[n][1]));
    }
    const series = plot.series();
    const gap = Math.min(wide * 0.2, 24);
    series.forEach(({ values, number, faint }, order) => {
      const width = over ? wide - gap : (wide - gap) / series.length;
      values.forEach((value, n) => {
        if (value === null) return;
        const x = plot.x(n) - (wide - gap) / 2 + (over ? 0 : order * width);
        const y = plot.y(value);
        const look = `column c${number % 6}${faint ? " faint" : ""}${!over && notes[n] ? " undone" : ""}`;
        const height = Math.max(0, plot.box.bottom - y);
        plot.marks.append(
          shape("rect", {
            class: look,
            x,
            y,
            width: Math.max(0.5, width - (over ? 0 : 2)),
            height,
          }),
        );
        if (!over && width > 34)
          plot.marks.append(
            shape(
              "text",
              { class: "value middle", x: x + width / 2 - 1, y: y - 5 },
              written(value, 3),
            ),
          );
      });
    });
  },
  stops(plot) {
    return plot.spec.names.map((name, n) => ({
      x: plot.x(n),
      y: null,
      title: name,
      rows: [
        ...plot
          .series()
          .map(({ name, number, values, faint }) => [
            `c${number % 6}${faint ? " faint" : ""}`,
            name,
            written(values[n]),
          ]),
        ...(plot.spec.notes[n] ? [["", plot.spec.notes[n], ""]] : []),
      ],
    }));
  },
};
