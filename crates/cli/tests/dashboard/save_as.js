// Saves a file of a known pattern to where a person would have chosen, a part at a time, and says whether it is the same.

const [name, size] = arguments;
return (async () => {
  const folder = await navigator.storage.getDirectory();
  const chosen = await folder.getFileHandle("chosen", { create: true });
  window.showSaveFilePicker = async ({ suggestedName }) => (suggestedName === name ? chosen : null);
  document.querySelector(`[data-key="Save ${name}"]`).click();
  for (let left = 200; left > 0; left -= 1) {
    const content = new Uint8Array(await (await chosen.getFile()).arrayBuffer());
    if (content.length === Number(size)) return content.every((byte, index) => byte === (index * index) % 251);
    await new Promise((done) => setTimeout(done, 50));
  }
  return false;
})();
