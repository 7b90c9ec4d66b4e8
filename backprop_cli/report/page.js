"use strict";
// Reads a value off each chart: with the pointer, or with the slider below it, which a keyboard and a screen reader know.
for (const figure of document.querySelectorAll("figure[data-points]")) {
  const svg = figure.querySelector("svg");
  const slider = figure.querySelector("input");
  const output = figure.querySelector("output");
  const points = JSON.parse(document.getElementById(figure.dataset.points).textContent);
  if (!points.x.length) { slider.hidden = true; continue; }
  const [line, circle] = svg.querySelectorAll(".cursor");
  slider.max = points.x.length - 1;
  slider.value = slider.max;
  slider.hidden = false;
  slider.setAttribute("aria-valuetext", points.t[points.t.length - 1]);
  const show = (index) => {
    line.setAttribute("x1", points.x[index]);
    line.setAttribute("x2", points.x[index]);
    circle.setAttribute("cx", points.x[index]);
    circle.setAttribute("cy", points.y[index]);
    line.removeAttribute("hidden");
    circle.removeAttribute("hidden");
    output.textContent = points.t[index];
    slider.value = index;
    slider.setAttribute("aria-valuetext", points.t[index]);
  };
  slider.addEventListener("input", () => show(Number(slider.value)));
  svg.addEventListener("pointermove", (event) => {
    const frame = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / frame.width;
    const x = (event.clientX - frame.left) * scale;
    const y = (event.clientY - frame.top) * scale;
    let best = 0;
    for (let index = 1; index < points.x.length; index++) {
      const far = (at) => 4 * Math.abs(points.x[at] - x) + Math.abs(points.y[at] - y) / 4;
      if (far(index) < far(best)) best = index;
    }
    show(best);
  });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
