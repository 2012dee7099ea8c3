// Figures are drawn while the page is still being laid out, and later it may be turned or resized.
for (const plot of document.querySelectorAll(".plotly-graph-div")) {
  new ResizeObserver(() => Plotly.Plots.resize(plot)).observe(plot.closest("figure"));
}
// A legend button shows or hides its method in every figure beside it.
for (const drawings of document.querySelectorAll(".drawings")) {
  for (const button of drawings.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const plot of drawings.querySelectorAll(".plotly-graph-div")) {
        const traces = plot.data.flatMap((trace, index) => (trace.meta?.method === button.dataset.method ? [index] : []));
        if (traces.length) Plotly.restyle(plot, { visible: shown }, traces);
      }
    });
  }
}
