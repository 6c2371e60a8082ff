function render({ el }) {
  el.append(frame("clouds", "clouds"));
}

export default { render };
