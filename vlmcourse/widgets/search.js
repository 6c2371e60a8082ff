function render({ el }) {
  el.append(frame("search", "search"));
}

export default { render };
