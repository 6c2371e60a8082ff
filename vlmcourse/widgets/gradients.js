function render({ model, el }) {
  el.append(frame("gradients", "gradients", h("div", {}, "…")));
}

export default { render };
