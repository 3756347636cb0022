// Drops a file of a known pattern onto the place for files.

const [name, size] = arguments;
const content = new Uint8Array(Number(size)).map((_, index) => (index * index) % 251);
const carried = new DataTransfer();
carried.items.add(new File([content], name));
const zone = document.querySelector(".drop");
for (const kind of ["dragover", "drop"]) {
  zone.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried }));
}
