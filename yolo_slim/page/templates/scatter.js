// Points with labels, and the line of those that no other beats.

const SYMBOLS = [
  (x, y) => shape("circle", { cx: x, cy: y, r: 5 }),
  (x, y) => shape("rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9 }),
  (x, y) => shape("path", { d: `M${x},${y - 6}l6,10.5h-12z` }),
  (x, y) => shape("path", { d: `M${x},${y - 6.5}l6.5,6.5l-6.5,6.5l-6.5,-6.5z` }),
];

const SCATTER = {
  ...plain,
  zooms: "xy",
  height: (plot) => (plot.width < 480 ? 300 : 380),
  all: (plot) =>
    plot.series().flatMap((series) => series.points.map((point) => ({ point, series }))),
  legend(plot) {
    plain.legend(plot);
    plot.spec.series.forEach((_, number) => {
      const mark = SYMBOLS[number % 4](7, 7);
      mark.setAttribute("class", `symbol c${number % 6}`);
      plot.legend.children[number]
        ?.querySelector("i")
        .replaceWith(shape("svg", { class: "symbol", width: 14, height: 14 }, mark));
    });
  },
  extent(plot) {
    const all = this.all(plot);
    return {
      x: span(
        all.map(({ point }) => point[0]),
        0.12,
      ),
      y: span(
        all.map(({ point }) => point[1]),
        0.15,
      ),
    };
  },
  draw(plot) {
    plot.grid(
      ticks(plot.limits.x, plot.width / 90),
      ticks(plot.limits.y, 5),
      (v) => written(v),
      (v) => written(v),
    );
    const all = this.all(plot);
    const front = all
      .filter(({ point }) => point[4])
      .map(({ point }) => point)
      .sort((a, b) => a[0] - b[0]);
    const path = front
      .map(([x, y], n) => `${n ? "L" : "M"}${plot.x(x).toFixed(1)},${plot.y(y).toFixed(1)}`)
      .join("");
    plot.marks.append(shape("path", { class: "front", d: path }));
    const taken = all.map(({ point: [x, y] }) => around(plot.x(x), plot.y(y), 6, 6));
    for (const {
      point: [x, y, , label, best],
      series: { number },
    } of all) {
      const [px, py] = [plot.x(x), plot.y(y)];
      const mark = SYMBOLS[number % 4](px, py);
      mark.setAttribute("class", `symbol c${number % 6}${best ? "" : " beaten"}`);
      plot.marks.append(mark);
      const text = tail(label, 18);
      const half = (text.length * LETTER) / 2;
      const places = [
        [half + 10, 0],
        [-half - 10, 0],
        [0, -14],
        [0, 15],
      ];
      const free = places.find(([dx, dy]) => {
        const place = around(px + dx, py + dy, half, 6);
        return within(place, plot.box) && !taken.some((other) => overlap(other, place));
      });
      if (!free) continue;
      taken.push(around(px + free[0], py + free[1], half, 6));
      plot.marks.append(
        shape("text", { class: "label middle", x: px + free[0], y: py + free[1] + 4 }, text),
      );
    }
  },
  stops(plot) {
    return this.all(plot)
      .map(({ point: [x, y, fifty, label, best], series: { name } }) => ({
        x: plot.x(x),
        y: plot.y(y),
        title: `${name}: ${label}`,
        rows: [
          ["", "time", `${written(x)} ms`],
          ["", "mAP50-95", written(y, 3)],
          ["", "mAP50", written(fifty, 3)],
          ...(best ? [["", "no other is faster and better", ""]] : []),
        ],
      }))
      .sort((a, b) => a.x - b.x);
  },
};

function around(x, y, halfWidth, halfHeight) {
  return [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
}

function within([left, top, right, bottom], box) {
  return left >= box.left && right <= box.right && top >= box.top && bottom <= box.bottom;
}

function overlap(a, b) {
  return a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
}
