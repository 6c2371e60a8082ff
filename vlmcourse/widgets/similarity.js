function render({ el }) {
  el.append(frame("similarity", "similarity"));
}

export default { render };
