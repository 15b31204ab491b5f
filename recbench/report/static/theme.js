// Runs before anything is painted: the colours that were chosen last, or those of the system.
"use strict";
try {
  const chosen = localStorage.getItem("recbench-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage may be forbidden */ }
document.documentElement.classList.add("js");
