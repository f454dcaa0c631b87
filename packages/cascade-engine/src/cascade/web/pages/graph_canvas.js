// A graph on a canvas: thousands of nodes, drawn only where they are seen, with text only where it
// can be read. Texts are drawn, never parsed. Keys: arrows, Enter, + - 0, Escape.
const WIDTH = 180, HEIGHT = 40, LEAST = 0.004, MOST = 3;

export default {
  template: `
    <div class="graph">
      <canvas ref="canvas" tabindex="0" role="application" :aria-label="label"></canvas>
      <div class="graph-buttons">
        <button type="button" @click="zoom(1.4)" aria-label="Zoom in" title="Zoom in (+)">+</button>
        <button type="button" @click="zoom(1 / 1.4)" aria-label="Zoom out" title="Zoom out (-)">−</button>
        <button type="button" @click="fit()" aria-label="Show all" title="Show all (0)">⤢</button>
      </div>
    </div>`,
  props: { label: String },
  mounted() {
    this.view = { x: 0, y: 0, scale: 1 };
    this.picture = { numbers: [], places: [], lines: [], ways: [], names: [], states: [], notes: [] };
    this.picked = -1;
    this.isFitted = true;
    this.pointers = new Map();
    const canvas = this.$refs.canvas;
    this.resizing = new ResizeObserver(() => { if (this.isFitted) this.fit(); this.draw(); });
    this.resizing.observe(this.$el);
    this.theming = new MutationObserver(() => this.draw());
    this.theming.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    canvas.addEventListener("wheel", this.wheel, { passive: false });
    canvas.addEventListener("pointerdown", this.down);
    canvas.addEventListener("pointermove", this.move);
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, this.up);
    canvas.addEventListener("dblclick", () => this.open());
    canvas.addEventListener("keydown", this.key);
    this.$emit("ready");
  },
  unmounted() {
    this.resizing.disconnect();
    this.theming.disconnect();
  },
  methods: {
    show(picture, keep) {
      const number = this.picture.numbers[this.picked];
      this.picture = picture;
      this.picked = picture.numbers.indexOf(number);
      this.bySource = picture.lines.map(([from]) => from);
      if (!keep || this.isFitted) this.fit();
      this.draw();
    },
    change(changes) {
      for (const [at, state, note] of changes) {
        this.picture.states[at] = state;
        this.picture.notes[at] = note;
      }
      this.draw();
    },
    pick(number) {
      this.picked = this.picture.numbers.indexOf(number);
      this.draw();
    },
    bounds() {
      let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
      for (const [x, y] of [...this.picture.places, ...this.picture.ways.flat()]) {
        left = Math.min(left, x); right = Math.max(right, x + WIDTH);
        top = Math.min(top, y); bottom = Math.max(bottom, y + HEIGHT);
      }
      return right < left ? [0, 0, WIDTH, HEIGHT] : [left, top, right, bottom];
    },
    fit() {
      const { clientWidth, clientHeight } = this.$el;
      if (!clientWidth || !clientHeight) return;
      const [left, top, right, bottom] = this.bounds();
      const scale = Math.min((clientWidth - 32) / (right - left), (clientHeight - 32) / (bottom - top), 1.1);
      this.view = {
        scale: Math.max(scale, LEAST),
        x: clientWidth / 2 - scale * (left + right) / 2,
        y: clientHeight / 2 - scale * (top + bottom) / 2,
      };
      this.isFitted = true;
      this.draw();
    },
    zoom(by, x = this.$el.clientWidth / 2, y = this.$el.clientHeight / 2) {
      const view = this.view, scale = Math.min(Math.max(view.scale * by, LEAST), MOST);
      view.x = x - (x - view.x) * scale / view.scale;
      view.y = y - (y - view.y) * scale / view.scale;
      view.scale = scale;
      this.isFitted = false;
      this.draw();
    },
    wheel(event) {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    },
    down(event) {
      this.$refs.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
      this.began = [event.offsetX, event.offsetY];
      this.moved = false;
    },
    move(event) {
      const last = this.pointers.get(event.pointerId);
      if (!last) return;
      const now = [event.offsetX, event.offsetY];
      if (this.pointers.size === 2) {
        const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
        const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
        this.zoom(distance(now) / distance(last), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
        this.moved = true;
      } else if (this.moved || Math.hypot(now[0] - this.began[0], now[1] - this.began[1]) > 4) {
        this.moved = true;
        this.view.x += now[0] - last[0];
        this.view.y += now[1] - last[1];
        this.isFitted = false;
        this.draw();
      }
      this.pointers.set(event.pointerId, now);
    },
    up(event) {
      const known = this.pointers.delete(event.pointerId);
      if (known && !this.moved && event.type === "pointerup") this.choose(this.at(event.offsetX, event.offsetY));
    },
    at(x, y) {
      const { x: left, y: top, scale } = this.view;
      const [px, py] = [(x - left) / scale, (y - top) / scale];
      const slack = Math.max(0, 6 / scale - HEIGHT / 2);
      return this.picture.places.findIndex(([nx, ny]) =>
        px >= nx - slack && px <= nx + WIDTH + slack && py >= ny - slack && py <= ny + HEIGHT + slack);
    },
    choose(at) {
      this.picked = at;
      this.$emit("pick", { number: at < 0 ? 0 : this.picture.numbers[at] });
      this.draw();
    },
    open() {
      if (this.picked >= 0) this.$emit("open", { number: this.picture.numbers[this.picked] });
    },
    key(event) {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const done = {
        Enter: () => this.open(), Escape: () => this.choose(-1), "+": () => this.zoom(1.4),
        "=": () => this.zoom(1.4), "-": () => this.zoom(1 / 1.4), 0: () => this.fit(),
      }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (done) done();
      else if (steps[event.key]) this.step(...steps[event.key]);
      else return;
      event.preventDefault();
    },
    step(dx, dy) {
      const { places } = this.picture;
      if (!places.length) return;
      if (this.picked < 0) return this.reveal(0);
      const [x, y] = places[this.picked];
      let best = -1, least = Infinity;
      places.forEach(([px, py], at) => {
        const ahead = (px - x) * dx + (py - y) * dy, aside = Math.abs((px - x) * dy + (py - y) * dx);
        if (at !== this.picked && ahead > 0 && ahead + 3 * aside < least) {
          least = ahead + 3 * aside;
          best = at;
        }
      });
      if (best >= 0) this.reveal(best);
    },
    reveal(at) {
      this.choose(at);
      const { clientWidth, clientHeight } = this.$el, [px, py] = this.picture.places[at], view = this.view;
      const x = view.x + (px + WIDTH / 2) * view.scale, y = view.y + (py + HEIGHT / 2) * view.scale;
      if (x < 20 || y < 20 || x > clientWidth - 20 || y > clientHeight - 20) {
        view.x += clientWidth / 2 - x;
        view.y += clientHeight / 2 - y;
        this.isFitted = false;
        this.draw();
      }
    },
    draw() {
      if (this.isPlanned) return;
      this.isPlanned = true;
      requestAnimationFrame(() => { this.isPlanned = false; this.paint(); });
    },
    paint() {
      const canvas = this.$refs.canvas;
      if (!canvas) return;
      const began = performance.now();
      const { clientWidth: wide, clientHeight: high } = this.$el, ratio = window.devicePixelRatio || 1;
      if (canvas.width !== Math.round(wide * ratio) || canvas.height !== Math.round(high * ratio)) {
        canvas.width = Math.round(wide * ratio);
        canvas.height = Math.round(high * ratio);
      }
      const style = getComputedStyle(this.$el), colour = (name) => style.getPropertyValue(name).trim();
      const to = canvas.getContext("2d"), { x, y, scale } = this.view;
      to.setTransform(ratio, 0, 0, ratio, 0, 0);
      to.clearRect(0, 0, wide, high);
      to.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * x, ratio * y);
      const seen = { left: -x / scale - WIDTH, top: -y / scale - HEIGHT, right: (wide - x) / scale, bottom: (high - y) / scale };
      this.paintLines(to, seen, colour("--line-strong"), scale);
      this.paintNodes(to, seen, colour, scale);
      canvas.dataset.nodes = this.picture.numbers.length;
      canvas.dataset.milliseconds = (performance.now() - began).toFixed(1);
    },
    paintLines(to, seen, colour, scale) {
      const { places, lines, ways } = this.picture;
      to.strokeStyle = colour;
      to.lineWidth = Math.min(Math.max(1.4, 0.7 / scale), 60);
      to.globalAlpha = lines.length > 2000 ? 0.35 : 0.9;
      to.beginPath();
      lines.forEach(([from, user], at) => {
        let [x, y] = places[from];
        for (const [nextX, nextY] of [...ways[at], places[user]]) {
          this.paintLine(to, seen, scale, x + WIDTH, y + HEIGHT / 2, nextX, nextY + HEIGHT / 2);
          [x, y] = [nextX, nextY];
        }
        for (const [left, top] of ways[at]) {
          to.moveTo(left, top + HEIGHT / 2);
          to.lineTo(left + WIDTH, top + HEIGHT / 2);
        }
      });
      to.stroke();
      to.globalAlpha = 1;
    },
    paintLine(to, seen, scale, x1, y1, x2, y2) {
      if (Math.max(x1, x2) < seen.left || Math.min(x1, x2) > seen.right) return;
      if (Math.max(y1, y2) < seen.top || Math.min(y1, y2) > seen.bottom) return;
      to.moveTo(x1, y1);
      if (scale < 0.12) to.lineTo(x2, y2);
      else { const half = Math.max((x2 - x1) / 2, 12); to.bezierCurveTo(x1 + half, y1, x2 - half, y2, x2, y2); }
    },
    paintNodes(to, seen, colour, scale) {
      const { places, names, states, notes } = this.picture, colours = {};
      const readable = scale > 0.42, [text, card, picked] = ["--text", "--card", "--accent"].map(colour);
      places.forEach(([x, y], at) => {
        if (x < seen.left || y < seen.top || x > seen.right || y > seen.bottom) return;
        const state = states[at], own = (colours[state] ??= colour(`--state-${state}`) || text);
        to.fillStyle = readable ? card : own;
        to.strokeStyle = at === this.picked ? picked : own;
        to.lineWidth = at === this.picked ? Math.max(4, 2 / scale) : 1.6;
        to.beginPath();
        if (readable) to.roundRect(x, y, WIDTH, HEIGHT, 8); else to.rect(x, y, WIDTH, HEIGHT);
        to.fill();
        if (readable || at === this.picked) to.stroke();
        if (!readable) return;
        to.fillStyle = own;
        to.beginPath();
        to.roundRect(x, y, 7, HEIGHT, [8, 0, 0, 8]);
        to.fill();
        to.textBaseline = "middle";
        this.write(to, names[at], x + 15, y + (notes[at] ? 13 : 20), "600 13px system-ui, sans-serif", text);
        if (notes[at]) this.write(to, notes[at], x + 15, y + 29, "11px system-ui, sans-serif", colour("--muted"));
      });
    },
    write(to, text, x, y, font, colour) {
      to.font = font;
      to.fillStyle = colour;
      const room = WIDTH - 24;
      if (to.measureText(text).width > room) {
        let length = Math.floor(text.length * room / to.measureText(text).width);
        while (length > 1 && to.measureText(text.slice(0, length) + "…").width > room) length--;
        text = text.slice(0, length) + "…";
      }
      to.fillText(text, x, y);
    },
  },
};
