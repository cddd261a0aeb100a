// What all parts share: the values of the page, elements, and the tooltip.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

/** An HTML element; children are elements or texts, and a text is never read as markup. */
function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same of SVG. */
function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

/** A button with a text, and what it does. */
function button(text, attributes, does) {
  const node = element("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", does);
  return node;
}

const tip = {
  node: document.getElementById("tip"),

  /** Show a title and rows of [class of a swatch or "", name, value] beside a point of the window. */
  show(title, rows, x, y) {
    const lines = rows.map(([look, name, value]) =>
      element(
        "p",
        {},
        look ? element("i", { class: `swatch ${look}` }) : "",
        element("span", {}, name),
        element("b", {}, value),
      ),
    );
    this.node.replaceChildren(element("strong", {}, title), ...lines);
    this.node.hidden = false;
    const { width, height } = this.node.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = x + 16 + width > wide - 8 ? x - 16 - width : x + 16;
    const top = y + 12 + height > window.innerHeight - 8 ? y - 12 - height : y + 12;
    this.node.style.left = `${Math.max(8, Math.min(left, wide - width - 8))}px`;
    this.node.style.top = `${Math.max(8, top)}px`;
  },

  hide() {
    this.node.hidden = true;
  },
};
