// What pages do beyond links and forms: parts that stay live, questions as dialogs, copying.
// Every page works without it.
'use strict';

(() => {
  // On a narrow page the ways are wider than what is seen of them.
  for (const here of document.querySelectorAll('nav [aria-current]')) {
    const row = here.closest('nav');
    row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
  }

  const told = document.getElementById('told');
  const tell = (text) => { if (told) told.textContent = text; };

  // Parts of the page that changed are taken over from the page as it is now.
  const refresh = async () => {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' }, credentials: 'same-origin' });
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
    for (const part of document.querySelectorAll('[data-live]')) {
      const other = part.id && fresh.getElementById(part.id);
      if (!other || part.matches(':focus-within, :has(details[open] > pre), :has(dialog[open])')) continue;
      const open = new Set([...part.querySelectorAll('details')].flatMap((one, i) => (one.open ? [i] : [])));
      if (part.innerHTML === other.innerHTML) continue;
      part.replaceChildren(...other.childNodes);
      [...part.querySelectorAll('details')].forEach((one, i) => { if (open.has(i)) one.open = true; });
      ready(part);
    }
  };

  const follow = () => {
    const names = new Set([...document.querySelectorAll('[data-live]')].map((part) => part.dataset.live));
    if (names.size === 0) return;
    let busy = false;
    let again = false;
    const changed = async () => {
      if (document.hidden) { again = true; return; }
      if (busy) { again = true; return; }
      busy = true;
      try { await refresh(); } catch { /* the next change tries again */ }
      busy = false;
      if (again) { again = false; setTimeout(changed, 400); }
    };
    // A page that nobody sees listens to nothing: a browser has few connections to one host.
    let sources = [];
    const close = () => { for (const source of sources) source.close(); sources = []; };
    const open = () => {
      close();
      for (const name of names) {
        const source = new EventSource('/console/live/' + encodeURIComponent(name));
        source.onmessage = changed;
        // What came between the page and the stream.
        source.onopen = changed;
        sources.push(source);
      }
    };
    document.addEventListener('visibilitychange', () => { if (document.hidden) close(); else open(); });
    addEventListener('pagehide', close);
    open();
  };

  // A page that asks is shown over the one it was asked from.
  const dialog = document.getElementById('dialog');
  const ask = async (link) => {
    const answer = await fetch(link.href, { credentials: 'same-origin' });
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const content = page.querySelector('[data-dialog-content]');
    if (!answer.ok || answer.redirected || !content) { location.href = link.href; return; }
    dialog.replaceChildren(content);
    dialog.setAttribute('aria-label', content.querySelector('h1')?.textContent ?? '');
    for (const close of dialog.querySelectorAll('[data-dialog-close], .saving a')) {
      close.addEventListener('click', (event) => { event.preventDefault(); dialog.close(); });
    }
    dialog.showModal();
  };

  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-dialog]');
    if (!link || !dialog?.showModal || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    ask(link).catch(() => { location.href = link.href; });
  });

  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      const area = document.createElement('textarea');
      area.value = button.dataset.copy;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    const label = button.textContent;
    button.textContent = 'Copied';
    tell('Copied');
    setTimeout(() => { button.textContent = label; }, 1500);
  };

  // What only makes sense with script is shown by it.
  const ready = (root) => {
    for (const button of root.querySelectorAll('[data-copy]')) {
      button.hidden = false;
      button.addEventListener('click', () => copy(button));
    }
    for (const all of root.querySelectorAll('[data-tick-all]')) {
      all.hidden = false;
      const boxes = () => all.closest('form').querySelectorAll('input[name="delivery"]');
      all.addEventListener('change', () => boxes().forEach((box) => { box.checked = all.checked; }));
    }
  };

  // A field that was left empty narrows nothing and need not stand in the address.
  for (const form of document.querySelectorAll('form.filters')) {
    form.addEventListener('submit', () => {
      for (const field of form.elements) if (field.name && field.value === '') field.disabled = true;
    });
  }

  ready(document);
  follow();
})();
