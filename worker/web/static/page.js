// Keys of the worklist and of a study, and the window of an image. Without it all can be read, and
// every form sent.
"use strict";

const isTyping = (event) =>
  event.ctrlKey || event.metaKey || event.altKey ||
  event.target.matches("input:not([type=range]), select, textarea");

// --- the worklist ---------------------------------------------------------------------------

function moveInWorklist(step) {
  const links = [...document.querySelectorAll(".worklist td:first-child a")];
  if (!links.length) return;
  const at = links.indexOf(document.activeElement);
  const next = at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step;
  links[Math.min(Math.max(next, 0), links.length - 1)].focus();
}

// --- verdicts -------------------------------------------------------------------------------

// Of the image that has the focus, else of the first.
function judge(event) {
  const image = document.activeElement?.closest("section.image") ?? document.querySelector("section.image");
  if (!event.repeat) image?.querySelector(`.verdict [data-key="${event.key}"]`)?.click();
}

document.addEventListener("htmx:afterRequest", (event) => {
  const form = event.target.closest("form.verdict");
  if (!form) return;
  if (event.detail.successful) return form.reset();
  const told = document.createElement("p");
  told.className = "problem";
  told.textContent = "This was not saved; load the page again, and look again.";
  document.querySelector(form.getAttribute("hx-target")).prepend(told);
});

// --- keys -----------------------------------------------------------------------------------

const KEYS = {
  a: judge, d: judge, u: judge, p: judge, n: judge,
  j: () => moveInWorklist(1),
  k: () => moveInWorklist(-1),
  "/": () => document.getElementById("words")?.focus(),
  h: () => document.querySelectorAll(".viewer .heat").forEach((heat) => heat.classList.toggle("hidden")),
  r: () => document.querySelectorAll(".reset").forEach((button) => button.click()),
  b: () => { if (document.querySelector(".viewer, .history")) location.href = "/"; },
};

document.addEventListener("keydown", (event) => {
  const does = KEYS[event.key];
  if (does && !isTyping(event)) {
    event.preventDefault();
    does(event);
  }
});

// What changed is said to who cannot see it.
document.addEventListener("htmx:afterSwap", (event) => {
  const told = document.getElementById("told");
  if (told && event.target.closest(".worklist")) told.textContent = "The worklist has changed.";
});

// A list that is not up to date must not look as if it were.
let upToDateAt = new Date();
document.addEventListener("htmx:afterRequest", (event) => {
  const stale = document.getElementById("stale");
  if (!stale || !event.target.closest(".worklist")) return;
  if (event.detail.successful) upToDateAt = new Date();
  stale.classList.toggle("hidden", event.detail.successful);
  stale.textContent = event.detail.successful ? "" :
    `This list is not up to date since ${upToDateAt.toLocaleTimeString()}: the server does not answer as it should.`;
});

// A decision is sent once.
document.addEventListener("submit", (event) => {
  if (event.target.matches("form[data-once]")) event.target.querySelector("button").disabled = true;
});

// --- an image -------------------------------------------------------------------------------

const STEP = 0.02; // of all grey values, for a press of a key

class Viewer {
  constructor(section) {
    this.frame = section.querySelector(".viewer");
    this.image = this.frame.querySelector(".radiograph");
    this.output = section.querySelector(".window");
    this.reset();
    section.querySelector(".reset").addEventListener("click", () => { this.reset(); if (this.canvas) this.draw(); });
    section.querySelector(".fade")?.addEventListener("input", (event) => this.fade(event.target.value));
    this.frame.addEventListener("pointerdown", (event) => this.grab(event));
    this.frame.addEventListener("keydown", (event) => this.press(event));
  }

  reset() { this.centre = 0.5; this.width = 1; }

  fade(percent) {
    const heat = this.frame.querySelector(".heat");
    heat.classList.remove("hidden");
    heat.style.opacity = percent / 100;
  }

  grab(start) {
    if (start.button !== 0) return;
    start.preventDefault();
    this.frame.focus({ preventScroll: true });
    this.frame.setPointerCapture(start.pointerId);
    const { centre, width } = this, box = this.frame.getBoundingClientRect();
    const move = (event) => this.show(
      centre + (event.clientY - start.clientY) / box.height,
      width + (event.clientX - start.clientX) / box.width,
    );
    this.frame.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"])
      this.frame.addEventListener(end, () => this.frame.removeEventListener("pointermove", move), { once: true });
  }

  press(event) {
    const moves = { ArrowUp: [-STEP, 0], ArrowDown: [STEP, 0], ArrowLeft: [0, -STEP], ArrowRight: [0, STEP] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    this.show(this.centre + move[0], this.width + move[1]);
  }

  show(centre, width) {
    this.centre = Math.min(Math.max(centre, 0), 1);
    this.width = Math.min(Math.max(width, STEP), 2);
    this.draw();
  }

  async samples() {
    this.fetched ??= fetch(this.frame.dataset.samples).then(async (answer) => {
      if (!answer.ok) throw new Error(await answer.text());
      this.rows = Number(answer.headers.get("X-Rows"));
      this.columns = Number(answer.headers.get("X-Columns"));
      return new Uint16Array(await answer.arrayBuffer());
    });
    return this.fetched;
  }

  async draw() {
    if (this.isDrawing) { this.isStale = true; return; }
    this.isDrawing = true;
    try {
      const samples = await this.samples();
      do {
        this.isStale = false;
        this.paint(samples);
        await new Promise(requestAnimationFrame);
      } while (this.isStale);
      this.output.textContent =
        `Level ${Math.round(this.centre * 100)} %, width ${Math.round(this.width * 100)} %`;
    } catch {
      this.fetched = undefined;
      this.output.textContent = "The image cannot be read just now.";
    } finally {
      this.isDrawing = false;
    }
  }

  paint(samples) {
    if (!this.canvas) {
      this.canvas = document.createElement("canvas");
      this.canvas.width = this.columns;
      this.canvas.height = this.rows;
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", this.image.alt);
      this.image.replaceWith(this.canvas);
      this.context = this.canvas.getContext("2d");
      this.pixels = this.context.createImageData(this.columns, this.rows);
    }
    // DICOM PS3.3 C.11.2.1.2, as a table of all 16-bit values.
    const low = this.centre - this.width / 2, grey = new Uint8ClampedArray(65536);
    for (let value = 0; value < 65536; value++) grey[value] = 255 * (value / 65535 - low) / this.width;
    const out = new Uint32Array(this.pixels.data.buffer);
    for (let at = 0; at < samples.length; at++) out[at] = 0xff000000 | (grey[samples[at]] * 0x010101);
    this.context.putImageData(this.pixels, 0, 0);
  }
}

document.querySelectorAll("section.image").forEach((section) => new Viewer(section));
