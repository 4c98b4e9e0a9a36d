"use strict";
// The page: starts igv.js over the files that lie in the page itself or beside it, and goes where the reader asks.
(async () => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const status = document.getElementById("status");
  const say = (text) => { status.textContent = text; };

  const decoded = (text) => Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  // A file of the page: decoded once, and its text dropped; or the address where it is served.
  const held = new Map();
  const file = (name) => {
    if (page.served) return new URL("data/" + encodeURIComponent(name), location.href).href;
    if (!held.has(name)) {
      const element = document.getElementById("file" + page.files.indexOf(name));
      held.set(name, new File([decoded(element.textContent)], name));
      element.remove();
    }
    return held.get(name);
  };

  const sizes = page.contigs.map(([name, length]) => name + "\t" + length + "\n").join("");
  const reference = page.sequence
    ? { id: page.title, name: page.title, twoBitURL: file(page.sequence), wholeGenomeView: false }
    : { id: page.title, name: page.title, format: "chromsizes", fastaURL: new File([sizes], "genome.chrom.sizes"),
        wholeGenomeView: false };
  const tracks = page.tracks.map((track) => ({
    ...track.look, name: track.name,
    ...Object.fromEntries(Object.entries(track.files).map(([key, name]) => [key, file(name)])),
  }));

  let browser;
  const go = async (contig, start, end, text) => {
    await browser.genome.loadChromosome(contig);
    await browser.updateLoci([{ chr: contig, start, end }]);
    say(`Shown: ${text} (${contig}:${(start + 1).toLocaleString("en")}-${end.toLocaleString("en")})`);
  };
  const goTo = (button) => {
    for (const other of document.querySelectorAll("button[aria-current]")) other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    const { contig, start, end } = button.dataset;
    return go(contig, Number(start), Number(end), button.textContent);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-contig]");
    if (button && browser) goTo(button).catch((error) => say("That place cannot be shown: " + error));
  });

  const lengths = new Map(page.contigs);
  const region = (text) => {
    const whole = lengths.get(text);
    if (whole !== undefined) return [text, text, 0, whole];
    const found = /^(.+):([\d,]+)-([\d,]+)$/.exec(text);
    if (!found || !lengths.has(found[1])) return undefined;
    const [first, last] = [found[2], found[3]].map((number) => Number(number.replaceAll(",", "")));
    const end = Math.min(last, lengths.get(found[1]));
    return first >= 1 && first <= end ? [text, found[1], first - 1, end] : undefined;
  };
  const rank = (name, wanted) => (name === wanted ? 0 : name.startsWith(wanted) ? 1 : name.includes(wanted) ? 2 : 3);
  const find = (text) => {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return [];
    const place = region(text.trim());
    const matches = page.names.map((row) => [rank(row[0].toLowerCase(), wanted), row]).filter(([order]) => order < 3);
    matches.sort((one, other) => one[0] - other[0]);
    return [...(place ? [place] : []), ...matches.map(([, row]) => row)];
  };
  const MOST = 40;
  const search = document.getElementById("search");
  const list = document.getElementById("found");
  search.addEventListener("input", () => {
    const rows = find(search.value);
    list.replaceChildren(...rows.slice(0, MOST).map(([text, contig, start, end]) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      Object.assign(button.dataset, { contig, start, end });
      button.type = "button";
      button.textContent = text;
      item.append(button);
      return item;
    }));
    const more = rows.length > MOST ? `, the first ${MOST} are listed` : "";
    say(search.value.trim() ? `${rows.length} found${more}` : "");
  });
  document.getElementById("searching").addEventListener("submit", (event) => {
    event.preventDefault();
    const first = list.querySelector("button");
    if (first) first.click();
  });

  try {
    browser = await igv.createBrowser(document.getElementById("browser"), {
      reference, tracks, loadDefaultGenomes: false, search: false, queryParametersSupported: false, showSVGButton: true,
    });
    window.annotator = { browser, go, find };
    const first = document.querySelector("button[data-contig]");
    if (first) await goTo(first);
    else say("Ready.");
    document.documentElement.dataset.state = "ready";
  } catch (error) {
    document.documentElement.dataset.state = "failed";
    say("The genome browser cannot be started here: " + (error && error.message ? error.message : error));
  }
})();
