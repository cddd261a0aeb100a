// A legend whose entries are switches.

/** Buttons of a legend, each of which switches a series off and on. */
function switches(list, names, hidden, changed, mark = "") {
  list.replaceChildren(
    ...names.map((name, number) => {
      const node = button(
        "",
        { "aria-pressed": String(!hidden.has(number)), title: "Show or hide" },
        () => {
          if (!hidden.delete(number)) hidden.add(number);
          node.setAttribute("aria-pressed", String(!hidden.has(number)));
          changed();
        },
      );
      node.append(
        element("i", { class: `swatch ${mark} c${number % 6}` }),
        element("span", {}, name),
      );
      return element("li", {}, node);
    }),
  );
}
