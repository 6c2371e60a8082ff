function render({ el }) {
  el.append(frame("text_attention", "text_attention"));
}

export default { render };
