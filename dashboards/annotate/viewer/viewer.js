// The viewer: images side by side with one zoom and one place for all of them, flicker, 1:1 pixels, and the next
// images loaded and decoded ahead. It only shows: every answer is a native button of the page. It reports when a pair
// was painted, and lets no answer through before anybody can have looked at it, or because a key is held down.
// Images are known by handles; texts come as data and become text nodes.

const decoded = new Map(); // url -> Promise<HTMLImageElement>, of what is shown and what comes next

function load(url) {
  if (!decoded.has(url)) {
    const image = new Image();
    image.draggable = false;
    image.decoding = "async";
    image.src = url;
    decoded.set(url, image.decode().then(() => image, () => null));
  }
  return decoded.get(url);
}

function keepOnly(urls) {
  for (const url of decoded.keys()) if (!urls.has(url)) decoded.delete(url);
}

function typing() {
  const at = document.activeElement;
  return at && (at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName));
}

// keys that may be held down: they move the view or the page and answer nothing
const MAY_REPEAT = new Set(["z", "+", "=", "-", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home",
  "End", "Tab", " ", "Backspace", "Delete", "Shift"]);
const ASIDE = '[class*="st-key-best_"], [class*="st-key-worst_"], [class*="st-key-undo"], [class*="st-key-cancel"], [class*="_best_"], [class*="_worst_"]';

class Viewer {
  constructor(root) {
    this.root = root;
    this.token = null;
    this.panes = [];
    // zoom over "fit", or over one pixel on one pixel; centre in parts of the image, the same for all
    this.look = { zoom: 1, x: 0.5, y: 0.5, pixels: false };
    this.flickering = null;
    this.visited = -1;
    this.command = 0;
    this.off = new AbortController();
    const on = { capture: true, signal: this.off.signal };
    document.addEventListener("click", (event) => this.clicked(event), on);
    window.addEventListener("keydown", (event) => this.pressed(event), on); // the first of all to hear a key
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(root);
    this.serial = 0; // raised by everything that the server sends
    this.paintedAt = 0;
    this.dialogs = new MutationObserver((seen) => seen.forEach((change) => this.calm(change.addedNodes)));
    this.dialogs.observe(document.body, { childList: true, subtree: true });
  }

  // the page's own buttons do the same through the server; here it is done at once, and the press goes no further
  clicked(event) {
    if (!this.box.isConnected) return; // the page has put another viewer in this one's place, and asks that one
    if (!this.data || !event.target.closest || !event.target.closest("button")) return;
    if (event.target.closest('[class*="st-key-outcomes_"]') && !event.target.closest(ASIDE)) this.gate(event);
    const holder = event.target.closest('[class*="st-key-viewer_"]');
    if (!holder) return;
    const name = [...holder.classList].find((c) => c.startsWith("st-key-viewer_")).slice("st-key-viewer_".length);
    if (this.act(name)) event.stopImmediatePropagation();
  }

  pressed(event) {
    if (!this.box.isConnected || !this.data) return;
    if (typing() || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.repeat && !MAY_REPEAT.has(key)) { event.preventDefault(); event.stopImmediatePropagation(); return; }
    if (!event.shiftKey && this.data.keys.includes(key)) { if (!this.gate(event)) return; }
    const name = key === "z" ? (event.shiftKey ? "zoom_out" : "zoom_in")
      : { "+": "zoom_in", "=": "zoom_in", "-": "zoom_out" }[key] || (event.shiftKey ? null
      : { o: "pixels", a: "fit", v: "flicker", n: "jump", ArrowLeft: "pan_left", ArrowRight: "pan_right",
          ArrowUp: "pan_up", ArrowDown: "pan_down" }[key]);
    if (name && this.act(name)) { event.preventDefault(); event.stopImmediatePropagation(); }
  }

  // whether an answer goes on its way: only about the pair that is painted, and after a look at it
  gate(event) {
    const token = this.data.token.split("/")[0];
    const own = document.querySelector(`[class*="st-key-outcomes_"][class*="${CSS.escape(token)}"]`);
    const looked = this.box.dataset.painted === this.data.token && performance.now() - this.paintedAt >= this.data.look;
    if (!looked || !own) { event.preventDefault(); event.stopImmediatePropagation(); return false; }
    const serial = this.serial;
    setTimeout(() => { if (this.serial === serial) this.connected(true); }, 2500);
    return true;
  }

  // tell whoever answers that the server is away; asked after an answer that nothing followed, and until it is back
  async connected(pressed) {
    if (this.asking || !this.box.isConnected) return;
    this.asking = true;
    let there = false;
    try { there = (await fetch(this.data.health, { cache: "no-store", signal: AbortSignal.timeout(4000) })).ok; } catch { /* away */ }
    this.asking = false;
    this.away.hidden = there;
    if (!there) { this.away.textContent = this.data[pressed ? "lost" : "away"]; setTimeout(() => this.connected(pressed), 2000); }
  }

  act(name) {
    const look = this.look, step = 0.2 / this.over(look);
    if (name === "zoom_in") this.zoom(look.zoom * 1.5);
    else if (name === "zoom_out") this.zoom(look.zoom / 1.5);
    else if (name === "fit") this.go(1, 0.5, 0.5, false);
    else if (name === "pixels") this.go(1, look.x, look.y, true);
    else if (name === "pan_left") this.go(look.zoom, look.x - step, look.y);
    else if (name === "pan_right") this.go(look.zoom, look.x + step, look.y);
    else if (name === "pan_up") this.go(look.zoom, look.x, look.y - step);
    else if (name === "pan_down") this.go(look.zoom, look.x, look.y + step);
    else if (name === "flicker") this.flicker();
    else if (name === "jump") this.jump();
    else return false;
    return true;
  }

  fit(pane) { return Math.min(pane.frame.clientWidth / pane.width, pane.frame.clientHeight / pane.height) || 1; }

  scale(pane) { return this.look.zoom * (this.look.pixels ? 1 / window.devicePixelRatio : this.fit(pane)); }

  // the zoom over "fit" of the first image, whatever it is counted over
  over(look) {
    return look.pixels && this.panes.length ? look.zoom / (window.devicePixelRatio * this.fit(this.panes[0])) : look.zoom;
  }

  zoom(value, x = this.look.x, y = this.look.y) { this.go(value, x, y); }

  go(zoom, x, y, pixels = this.look.pixels) {
    // from a quarter of "fit" to 64 of it, and to one pixel on one pixel wherever that lies
    const ones = this.panes.map((p) => 1 / (window.devicePixelRatio * this.fit(p)));
    const unit = pixels && ones.length ? ones[0] : 1;
    zoom = Math.min(Math.max(zoom, Math.min(0.25, ...ones) / unit), Math.max(64, ...ones) / unit);
    const half = 0.5 / Math.max(zoom * unit, 1);
    this.look = { zoom, pixels, x: Math.min(Math.max(x, half), 1 - half), y: Math.min(Math.max(y, half), 1 - half) };
    this.draw();
  }

  jump() { // from text to text where its places are known, else over the quarters of the image
    const boxes = this.data.boxes.length ? this.data.boxes
      : [[0, 0, 0.5, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0.5, 0.5, 1, 1]];
    this.visited = (this.visited + 1) % (boxes.length + 1);
    if (this.visited === boxes.length) return this.go(1, 0.5, 0.5, false);
    const [left, top, right, bottom] = boxes[this.visited];
    const zoom = Math.min(0.8 / Math.max(right - left, 0.02), 0.8 / Math.max(bottom - top, 0.02), 12);
    this.go(Math.max(zoom, 1), (left + right) / 2, (top + bottom) / 2, false);
  }

  flicker(on = this.flickering === null) {
    clearInterval(this.flickering);
    this.flickering = null;
    this.box.classList.toggle("flicker", on);
    if (on) {
      let turn = 0;
      const show = () => { this.panes.forEach((p, i) => p.figure.classList.toggle("on", i === turn % this.panes.length)); turn += 1; };
      const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      show();
      this.flickering = setInterval(show, still ? 2000 : 600);
    }
    this.draw();
  }

  draw() {
    for (const pane of this.panes) {
      if (!pane.image) continue;
      const scale = this.scale(pane);
      const dx = pane.frame.clientWidth / 2 - this.look.x * pane.width * scale;
      const dy = pane.frame.clientHeight / 2 - this.look.y * pane.height * scale;
      pane.image.style.width = `${pane.width}px`;
      pane.image.style.height = `${pane.height}px`;
      pane.image.style.transform = `translate(${dx}px, ${dy}px) scale(${scale})`;
      pane.image.classList.toggle("sharp", scale * window.devicePixelRatio > 1.5);
      pane.zoomed.textContent = `${Math.round(scale * window.devicePixelRatio * 100)} %`;
    }
  }

  pane(picture) {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const name = document.createElement("span"), chosen = document.createElement("span"), zoomed = document.createElement("span"), frame = document.createElement("div");
    figure.className = "pane"; frame.className = "frame"; zoomed.className = "zoom";
    chosen.className = "choose";
    caption.append(name, chosen, zoomed);
    figure.append(caption, frame);
    const made = { figure, frame, zoomed, name, chosen, width: picture.width, height: picture.height, image: null };
    frame.addEventListener("wheel", (event) => {
      event.preventDefault();
      const at = frame.getBoundingClientRect(), scale = this.scale(made);
      const x = this.look.x + (event.clientX - at.left - at.width / 2) / (made.width * scale);
      const y = this.look.y + (event.clientY - at.top - at.height / 2) / (made.height * scale);
      const factor = Math.exp(-event.deltaY / 400), back = 1 / factor;
      this.go(this.look.zoom * factor, x + (this.look.x - x) * back, y + (this.look.y - y) * back);
    }, { passive: false });
    frame.addEventListener("dblclick", () => this.act(this.look.pixels || this.over(this.look) > 1.01 ? "fit" : "pixels"));
    frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); made.drag = [event.clientX, event.clientY]; });
    frame.addEventListener("pointerup", () => { made.drag = null; });
    frame.addEventListener("pointermove", (event) => {
      if (!made.drag) return;
      const scale = this.scale(made);
      this.go(this.look.zoom, this.look.x - (event.clientX - made.drag[0]) / (made.width * scale),
              this.look.y - (event.clientY - made.drag[1]) / (made.height * scale));
      made.drag = [event.clientX, event.clientY];
    });
    return made;
  }

  // what is written beside the images: changes with the language, and with what is chosen
  label() {
    this.panes.forEach((pane, i) => {
      const picture = this.data.pictures[i];
      if (!picture) return;
      pane.name.textContent = picture.name;
      if (pane.image) pane.image.alt = picture.alt;
      pane.chosen.replaceChildren(...picture.marks.map((mark) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = mark.on ? `✓ ${mark.text}` : mark.text;
        button.setAttribute("aria-pressed", String(mark.on));
        button.addEventListener("click", () => {
          const native = document.querySelector(`.st-key-${CSS.escape(mark.key)} button`);
          if (native) native.click();
        });
        return button;
      }));
      for (const which of ["best", "worst"]) pane.figure.classList.toggle(which, picture.marks.some((m) => m.on && m.which === which));
    });
  }

  async show(data) {
    const fresh = data.token !== this.token;
    this.data = data;
    this.serial += 1;
    if (!fresh) this.label();
    if (data.command > this.command) { this.command = data.command; if (!fresh) this.act(data.action); }
    if (!fresh) return;
    this.token = data.token;
    this.command = data.command;
    keepOnly(new Set([...data.pictures.map((p) => p.url), ...data.ahead]));
    const images = await Promise.all(data.pictures.map((p) => load(p.url)));
    if (this.token !== data.token) return; // answered meanwhile
    if (this.flickering !== null) this.flicker(false);
    this.look = { zoom: 1, x: 0.5, y: 0.5, pixels: false };
    this.visited = -1;
    data = this.data; // the language may have changed while the images were loaded
    const panes = data.pictures.map((p) => this.pane(p));
    panes.forEach((pane, i) => {
      if (images[i]) { pane.image = images[i]; pane.frame.append(images[i]); }
      else { const failed = document.createElement("div"); failed.className = "failed"; failed.textContent = data.failed; pane.frame.append(failed); }
    });
    this.panes = panes;
    this.label();
    this.box.classList.toggle("many", panes.length > 3);
    this.box.style.setProperty("--tall", String(Math.max(...panes.map((p) => p.height / p.width))));
    this.box.replaceChildren(...panes.map((p) => p.figure));
    this.draw();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      if (this.token !== data.token) return;
      this.box.dataset.painted = data.token;
      this.paintedAt = performance.now();
      this.box.dataset.paintedAt = String(this.paintedAt);
      fetch(data.report, { method: "POST", body: data.token, keepalive: true }).catch(() => {});
      data.ahead.forEach((url) => load(url));
    }));
  }

  // Streamlit's own dialog asks about the internet, which has nothing to do with it
  calm(nodes) {
    for (const node of nodes) {
      if (!node.textContent || !node.textContent.includes("connected to the internet")) continue;
      const close = node.querySelector && node.querySelector('[role="dialog"] button');
      if (close) close.click();
      this.connected(false);
    }
  }

  end() { clearInterval(this.flickering); this.watch.disconnect(); this.dialogs.disconnect(); this.off.abort(); }
}

export default function ({ data, parentElement }) {
  let viewer = parentElement.__viewer;
  if (!viewer) {
    const desk = document.createElement("div"), box = document.createElement("div");
    desk.className = "desk";
    box.className = "panes";
    const away = document.createElement("div");
    away.className = "away";
    away.setAttribute("role", "alert");
    away.hidden = true;
    desk.append(box, away);
    parentElement.append(desk);
    viewer = parentElement.__viewer = new Viewer(parentElement.host || parentElement);
    viewer.box = box;
    viewer.away = away;
  }
  viewer.show(data);
  return () => {
    // Streamlit may call this between two calls for the same element; the viewer ends only when its element is gone
    setTimeout(() => { if (!viewer.box.isConnected) { viewer.end(); parentElement.__viewer = undefined; } }, 1000);
  };
}
