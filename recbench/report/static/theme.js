// Runs before the first paint: applies the theme chosen last, or that of the system.
"use strict";
try {
  const chosen = localStorage.getItem("recbench-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage may be forbidden */ }
document.documentElement.classList.add("js");
