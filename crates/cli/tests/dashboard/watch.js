// Keeps what is shown or said in a part of the page from now on, in `window.seen`.

const [where, what] = arguments;
window.seen = [];
const look = () => {
  const part = document.querySelector(where);
  const text = what ? part.querySelector(what)?.getAttribute("aria-label") : part.textContent;
  if (text && window.seen.at(-1) !== text) window.seen.push(text);
};
new MutationObserver(look).observe(document.querySelector(where), { childList: true, subtree: true, characterData: true });
