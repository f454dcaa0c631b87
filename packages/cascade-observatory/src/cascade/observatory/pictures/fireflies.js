"use strict";
// The field, as it flashed: a slider for the time, and a line through R at that time.
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("field");
const slider = document.getElementById("time");
const play = document.getElementById("play");
const output = document.getElementById("now");
const context = canvas.getContext("2d");
const pixels = context.createImageData(data.side, data.side);
const NIGHT = [16, 24, 32], GLOW = [122, 128, 30], LIGHT = [255, 246, 170];
const times = [], places = [];
for (let i = 0, part = 0; i < data.flashes.length; i += 2) {
  part += data.flashes[i];
  times.push(part / data.parts * data.period);
  places.push(data.flashes[i + 1]);
}
const last = new Float64Array(data.side * data.side);
let next = 0, shown = Infinity;

// The line moves through the plot of R, whose width is the whole time.
const plot = document.querySelector("#plot path").getBBox();
const cursor = document.createElementNS("http://www.w3.org/2000/svg", "line");
cursor.id = "cursor";
cursor.setAttribute("y1", plot.y);
cursor.setAttribute("y2", plot.y + plot.height);
document.querySelector(".panels svg").append(cursor);

function show(time) {
  if (time < shown) { last.fill(-Infinity); next = 0; }
  shown = time;
  while (next < times.length && times[next] <= time) last[places[next]] = times[next++];
  for (let i = 0; i < last.length; i++) {
    const bright = 2 * Math.exp((last[i] - time) / (data.fade * data.period));
    const [low, high] = bright <= 1 ? [NIGHT, GLOW] : [GLOW, LIGHT];
    const share = bright > 1 ? bright - 1 : bright;
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = low[c] + (high[c] - low[c]) * share;
    pixels.data[4 * i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  const x = plot.x + plot.width * time / data.end;
  cursor.setAttribute("x1", x);
  cursor.setAttribute("x2", x);
  const order = data.order[Math.min(Math.floor(time / data.every), data.order.length - 1)];
  output.textContent = `${time.toFixed(1)} s, R ${order.toFixed(3)}`;
}

let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches, before = null;
function frame(now) {
  if (playing) {
    const time = Number(slider.value) + (before === null ? 0 : (now - before) / 1000);
    slider.value = time >= data.end ? 0 : time;
    show(Number(slider.value));
  }
  before = now;
  requestAnimationFrame(frame);
}
play.textContent = playing ? "pause" : "play";
play.addEventListener("click", () => {
  playing = !playing;
  play.textContent = playing ? "pause" : "play";
});
slider.addEventListener("input", () => show(Number(slider.value)));
show(0);
requestAnimationFrame(frame);
