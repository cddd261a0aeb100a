// Tables that are sorted by a click on a heading.

function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const node = button("", {}, () => {
      const down = head.getAttribute("aria-sort") === "descending";
      const up = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      const figures = rows.some((row) => value(row, column) !== null);
      const order = figures
        ? down
          ? "ascending"
          : up
            ? ""
            : "descending"
        : up
          ? "descending"
          : down
            ? ""
            : "ascending";
      if (order) head.setAttribute("aria-sort", order);
      body.append(...(order ? sorted(rows, column, order === "ascending" ? 1 : -1) : rows));
    });
    node.append(...head.childNodes);
    head.append(node);
  });
}

/** Rows by the values of a column: figures as figures, texts as texts; what has none is last. */
function sorted(rows, column, sign) {
  const text = (row) => row.cells[column].textContent.trim();
  const words = new Intl.Collator("en", { numeric: true });
  const figures = rows.some((row) => value(row, column) !== null);
  return [...rows].sort((a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    if (!figures) return sign * words.compare(text(a), text(b));
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (x - y);
  });
}

/** The figure of a cell; null for a text, or a dash. */
function value(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const number = cell.classList.contains("number")
    ? Number(cell.textContent.replaceAll(",", ""))
    : NaN;
  return Number.isNaN(number) || cell.textContent.trim() === "" ? null : number;
}
