"use strict";
// The page works without this script; it adds keys, toggles, enlarging, more photos on scrolling, and copying.

const find = (selector, within = document) => within.querySelector(selector);

function tell(text) {
  const place = find("#told");
  if (place) place.textContent = text;
}

// Verdicts: one press is one verdict, however often the key repeats before the next card is there.
let leaving = false;
document.addEventListener("submit", (event) => {
  if (event.target.method !== "post") return;
  if (leaving) event.preventDefault();
  leaving = true;
});
// A page that a browser kept whole would send its verdict as the one that it sent before.
window.addEventListener("pageshow", (event) => {
  leaving = false;
  if (event.persisted) location.reload();
});

// Toggles last for the visit.
function toggle(id, name, pressed) {
  const button = find(id);
  if (!button) return;
  button.setAttribute("aria-pressed", String(pressed));
  document.body.classList.toggle(name === "boxes" ? "without-boxes" : "with-maps", name === "boxes" ? !pressed : pressed);
  sessionStorage.setItem(name, pressed ? "1" : "0");
  if (name === "maps") loadMaps();
}

function loadMaps() {
  if (!document.body.classList.contains("with-maps")) return;
  for (const map of document.querySelectorAll(".shots .map:not([src])")) nearby.observe(map.closest(".picture"));
}

// A map is computed when its photo comes into view, and not before.
const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    nearby.unobserve(entry.target);
    const map = find(".map", entry.target);
    if (map && !map.src) map.src = map.dataset.src;
  }
}, { rootMargin: "100px" });

for (const [id, name, usual] of [["#toggle-box", "boxes", "1"], ["#toggle-map", "maps", "0"]]) {
  const button = find(id);
  if (!button) continue;
  toggle(id, name, (sessionStorage.getItem(name) ?? usual) === "1");
  button.addEventListener("click", () => toggle(id, name, button.getAttribute("aria-pressed") !== "true"));
}

// Enlarging.
const enlarged = find("#enlarged");
document.addEventListener("click", (event) => {
  const picture = event.target.closest("a.picture");
  if (!picture || !enlarged || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const place = find(".picture", enlarged);
  const photo = new Image();
  photo.src = picture.href;
  photo.alt = find("img", picture).alt;
  const overlays = [...picture.querySelectorAll(".box, .map[src]")].map((overlay) => overlay.cloneNode());
  place.replaceChildren(photo, ...overlays);
  find("p", enlarged).textContent = photo.alt;
  enlarged.showModal();
});

// More photos.
async function loadMore(more) {
  const link = find("a", more);
  if (!link || more.dataset.loading) return;
  more.dataset.loading = "1";
  try {
    const answer = await fetch(link.href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const added = [...page.querySelectorAll(".shots > li")];
    more.closest(".strip").querySelector(".shots").append(...added);
    const next = find(".more", page);
    more.replaceWith(...(next ? [next] : []));
    if (next) scrolled.observe(next);
    loadMaps();
    tell(`${added.length} more photos`);
  } finally {
    delete more.dataset.loading;
  }
}

const scrolled = new IntersectionObserver((entries) => {
  // Only once a person has scrolled: a short page would otherwise fetch every photo at once.
  for (const entry of entries) if (entry.isIntersecting && window.scrollY > 0) loadMore(entry.target);
});
if (find("#judge")) for (const more of document.querySelectorAll(".more")) scrolled.observe(more);
document.addEventListener("click", (event) => {
  const link = event.target.closest("#judge ~ .strip .more a");
  if (!link) return;
  event.preventDefault();
  loadMore(link.parentElement);
});

// Copying.
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const command = document.getElementById(button.dataset.copies);
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
      tell("Copied");
    } catch {
      // Not allowed (a page over plain http elsewhere): leave it selected, ready to be copied by hand.
      getSelection().selectAllChildren(command);
      tell("Selected; copy it with your keyboard");
    }
  });
}

// Keys.
const actions = {
  s: () => find(".judge [value=spurious]")?.click(),
  h: () => find(".judge [value=healthy]")?.click(),
  u: () => find(".judge [value=unsure]")?.click(),
  z: () => find("#undo button")?.click(),
  n: () => find("#note")?.focus(),
  b: () => find("#toggle-box")?.click(),
  m: () => find("#toggle-map")?.click(),
  ArrowLeft: () => find("#before")?.click(),
  ArrowRight: () => find("#after")?.click(),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || enlarged?.open) return;
  const writing = event.target.closest("input, textarea, select");
  if (writing) {
    if (event.key === "Escape") writing.blur();
    return;
  }
  const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
  if (!action) return;
  event.preventDefault();
  action();
});
