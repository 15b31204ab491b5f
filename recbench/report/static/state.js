// What the reader has chosen on a page, kept in its address, so that a copied link shows the same. Other scripts share it.
"use strict";
window.recbench = (() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const values = new URLSearchParams(location.search);
  let waiting = 0;
  function write() {
    waiting = 0;
    const text = values.toString();
    try { history.replaceState(null, "", `${location.pathname}${text ? `?${text}` : ""}${location.hash}`); } catch { /* some viewers forbid it */ }
    for (const link of all(".boards a[href]")) link.search = text;
  }
  const state = {
    get: (name, otherwise = "") => values.get(name) ?? otherwise,
    set(name, value, otherwise = "") {
      if (String(value) === String(otherwise)) values.delete(name);
      else values.set(name, value);
      if (!waiting) waiting = setTimeout(write, 120); // browsers limit how often an address changes
    },
    list: (name) => (values.get(name) ?? "").split(",").filter(Boolean),
    // Give a control the value of the address, if it can have that, and keep the address up to date.
    bind(element, name, event = "change") {
      const box = element.type === "checkbox";
      const standard = box ? String(element.checked) : element.value;
      const asked = values.get(name);
      if (asked !== null) {
        if (box) element.checked = asked === "true";
        else if (!element.options || [...element.options].some((option) => option.value === asked)) element.value = asked;
      }
      element.addEventListener(event, () => state.set(name, box ? element.checked : element.value, standard));
    },
    bindRadios(radios, name, valueOf = (radio) => radio.value) {
      const standard = radios.find((radio) => radio.checked);
      const asked = radios.find((radio) => valueOf(radio) === values.get(name));
      if (asked) asked.checked = true;
      for (const radio of radios) radio.addEventListener("change", () => state.set(name, valueOf(radio), standard && valueOf(standard)));
      return radios.findIndex((radio) => radio.checked);
    },
  };
  write();

  // Methods that are ticked or pinned: on every page of boards by the names that their pages have.
  const picked = new Set(state.list("methods"));
  const pinned = new Set(state.list("pinned"));
  const changed = [];
  function keepMethods() {
    state.set("methods", [...picked].join(","));
    state.set("pinned", [...pinned].join(","));
    for (const box of all("[data-pick]")) box.checked = picked.has(box.dataset.pick);
    for (const pin of all("[data-pin]")) {
      const on = pinned.has(pin.dataset.pin);
      pin.setAttribute("aria-pressed", String(on));
      pin.textContent = on ? "★" : "☆";
    }
    const text = one("[data-picked]");
    if (text) text.textContent = [picked.size && `${picked.size} shown`, pinned.size && `${pinned.size} ★`].filter(Boolean).join(", ");
    changed.forEach((act) => act());
  }
  for (const box of all("[data-pick]")) {
    box.addEventListener("change", () => { box.checked ? picked.add(box.dataset.pick) : picked.delete(box.dataset.pick); keepMethods(); });
  }
  for (const pin of all("[data-pin]")) {
    pin.addEventListener("click", () => {
      pinned.has(pin.dataset.pin) ? pinned.delete(pin.dataset.pin) : pinned.add(pin.dataset.pin);
      keepMethods();
    });
  }
  one("[data-pick-none]")?.addEventListener("click", () => { picked.clear(); keepMethods(); });
  one("[data-pin-none]")?.addEventListener("click", () => { pinned.clear(); keepMethods(); });
  const picker = one("[data-picker]");
  if (picker) {
    document.addEventListener("click", (event) => { if (picker.open && !picker.contains(event.target)) picker.open = false; });
    picker.addEventListener("keydown", (event) => { if (event.key === "Escape") { picker.open = false; one("summary", picker).focus(); } });
    const there = new Set(all("[data-pick]").map((box) => box.dataset.pick));
    for (const set of [picked, pinned]) for (const slug of [...set]) if (!there.has(slug)) set.delete(slug);
  }
  return { all, one, state, picked, pinned, changed, keepMethods };
})();
