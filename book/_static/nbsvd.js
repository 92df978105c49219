/* What the pages do beyond what their HTML does. Without it they can still be read, folded and printed. */

(() => {
  "use strict";

  /* A page from the disk may not fetch another: its search finds, and leaves the excerpts out. */
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  }

  const folds = () => [...document.querySelectorAll("article.bd-article details")];

  /* Open what folds around the place that the address names. */
  function reveal() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let opened = false;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) {
      opened ||= !fold.open;
      fold.open = true;
    }
    if (opened) target.scrollIntoView();
  }

  /* On paper everything is open. */
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = folds().filter((fold) => !fold.open);
    closed.forEach((fold) => { fold.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((fold) => { fold.open = false; }));

  /* One button for all proofs of a page. */
  function buttonForProofs() {
    const proofs = folds().filter((fold) => fold.classList.contains("of-theorem"));
    const heading = document.querySelector("article.bd-article h1");
    if (proofs.length < 2 || !heading) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "all-proofs";
    const label = () => {
      button.textContent = proofs.every((fold) => fold.open) ? "Close all proofs" : "Open all proofs";
    };
    button.addEventListener("click", () => {
      const open = !proofs.every((fold) => fold.open);
      proofs.forEach((fold) => { fold.open = open; });
      label();
    });
    proofs.forEach((fold) => fold.addEventListener("toggle", label));
    label();
    const lead = heading.nextElementSibling;
    (lead && lead.matches("p") ? lead : heading).after(button);
  }

  /* What is wider than its place scrolls inside it: it is reached by the keyboard, and fades where it goes on. */
  const WIDE = [
    "pre",
    ".output",
    "div.math mjx-container",
    ".pst-scrollable-table-container",
    ".nbsvd-player",
    ".cell_output > a.image-reference",
  ];
  const all = (selector) => [...document.querySelectorAll(`article.bd-article :is(${selector})`)];
  const scrolls = (part) =>
    part.scrollWidth > part.clientWidth && ["auto", "scroll"].includes(getComputedStyle(part).overflowX);
  const fade = (part, wide) => {
    part.classList.toggle("goes-on", wide && part.scrollLeft + part.clientWidth < part.scrollWidth - 4);
  };
  const seen = new WeakSet();
  const BLOCK = "p, li, td, th, dd, dt, figcaption, summary, h1, h2, h3, h4, div";
  function reachable() {
    const formulas = all("span.math").map((part) => [part, part.scrollWidth > part.closest(BLOCK).clientWidth + 1]);
    formulas.forEach(([part, wide]) => {
      part.classList.toggle("too-wide", wide);
      if (wide) part.tabIndex = 0;
      else part.removeAttribute("tabindex");
    });
    const parts = all(WIDE.join(", ")).map((part) => [part, scrolls(part)]);
    parts.forEach(([part, wide]) => {
      if (wide && !part.matches("a[href]")) part.tabIndex = 0;
      fade(part, wide);
      if (!seen.has(part)) part.addEventListener("scroll", () => fade(part, true), { passive: true });
      seen.add(part);
    });
  }
  let waiting = 0;
  function soon() {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(reachable);
  }

  addEventListener("DOMContentLoaded", () => {
    buttonForProofs();
    reveal();
  });
  addEventListener("hashchange", reveal);
  addEventListener("load", () => {
    const after = window.MathJax && MathJax.startup && MathJax.startup.promise;
    Promise.resolve(after).then(() => {
      reachable();
      document.fonts.addEventListener("loadingdone", soon); // formulas have another width in their own typeface
      addEventListener("resize", soon);
      folds().forEach((fold) => fold.addEventListener("toggle", soon));
    });
  });
})();
