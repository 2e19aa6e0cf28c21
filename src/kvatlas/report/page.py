"""The shell of a report page: one file, no network, light and dark, wide and narrow.

Owns: style, the hover script, and escaping of the title. Leaves to others: what is on the page.
"""

from __future__ import annotations

from html import escape

__all__ = ["page"]

_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--card:#f6f7f9;--text:#1b1f24;--soft:#5b6572;--line:#dfe3e8;
--alarm:#b42318;--alarm-bg:#fdeceb;--s1:#1d6fd1;--s2:#c2570c;--s3:#1a7f4b;--s4:#8a94a3}
@media (prefers-color-scheme:dark){:root{--bg:#111418;--card:#1a1f26;--text:#e8ebef;--soft:#9aa5b3;
--line:#2c343f;--alarm:#ff9c92;--alarm-bg:#3a1a18;--s1:#6cb2ff;--s2:#ffa060;--s3:#5fd39a;--s4:#77828f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:28px 20px 48px}
h1{font-size:24px;line-height:1.25;margin:0;overflow-wrap:anywhere}h1 span{font-weight:400}
h2{font-size:17px;margin:34px 0 10px}h2 small{font-weight:400;color:var(--soft);font-size:14px}
p.sub{color:var(--soft);margin:6px 0 0}
p.alarm{background:var(--alarm-bg);color:var(--alarm);font-weight:600;padding:10px 14px;
border-radius:8px;margin:0 0 12px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(176px,1fr));gap:12px;margin-top:20px}
.card{background:var(--card);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:27px;line-height:1.2;font-variant-numeric:tabular-nums}
.card .name{font-size:14px;font-weight:600}
.card .what{color:var(--soft);font-size:13px;margin:6px 0 0}
.meter{position:relative;height:8px;border-radius:4px;background:var(--line);margin:10px 0 0}
.meter i{position:absolute;inset:0 auto 0 0;border-radius:4px;background:var(--s3)}
.meter u{position:absolute;top:-3px;bottom:-3px;width:2px;background:var(--text)}
dl{display:grid;grid-template-columns:150px 1fr;gap:4px 16px;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}dd.unknown{color:var(--soft)}
dd.alarm{color:var(--alarm);font-weight:600}
figure.chart{margin:26px 0 0}figcaption{font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:2px 18px;color:var(--soft);font-size:13px;min-height:20px}
.legend b{color:var(--text);font-variant-numeric:tabular-nums}.legend .at{margin-left:auto}
.key i{display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;
margin-right:6px;background:currentColor}
.key i.marks{width:6px;height:6px;border-radius:3px;opacity:.6}
.key i.area{height:9px;opacity:.5}
.key i.dash{background:repeating-linear-gradient(90deg,var(--s4) 0 5px,transparent 5px 8px)}
.c1{color:var(--s1)}.c2{color:var(--s2)}.c3{color:var(--s3)}.c4{color:var(--s4)}
.frame{display:grid;grid-template-columns:52px 1fr;grid-template-rows:190px 24px;margin-top:8px}
.ys,.xs,.plot{position:relative}.xs{grid-column:2}
.ys span,.xs span,.xs em{position:absolute;font-size:12px;color:var(--soft);white-space:nowrap;
font-variant-numeric:tabular-nums;font-style:normal}
.ys span{right:8px;transform:translateY(-50%)}.xs span{top:4px;transform:translateX(-50%)}
.xs em{top:4px;right:0;background:var(--bg);padding-left:6px}
svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
svg *{vector-effect:non-scaling-stroke}
.grid{stroke:var(--line)}.level{stroke:var(--s4);stroke-width:1.5;stroke-dasharray:5 3}
.plot .line{fill:none;stroke:currentColor;stroke-width:1.6;stroke-linejoin:round}
.plot .area{fill:currentColor;opacity:.16}
.plot .marks{fill:none;stroke:currentColor;stroke-width:3.5;stroke-linecap:round;opacity:.45}
.cursor{position:absolute;top:0;bottom:0;width:1px;background:var(--soft);display:none}
details{margin-top:14px}summary{cursor:pointer;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin-top:8px}
td,th{text-align:left;padding:4px 12px 4px 0;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:anywhere}td.n{font-variant-numeric:tabular-nums}
th{font-weight:600;color:var(--soft)}code{font-size:12.5px}
footer{margin-top:36px;color:var(--soft);font-size:13px}
@media (max-width:560px){main{padding:18px 14px 36px}h1{font-size:20px}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}.frame{grid-template-columns:44px 1fr}
.legend .at{margin-left:0}}
"""

# Shows, under the pointer, the interval's values in the legend. Without it the page loses nothing
# else.
_SCRIPT = """
for (const chart of document.querySelectorAll('figure.chart')) {
  const data = JSON.parse(chart.querySelector('script').textContent);
  const plot = chart.querySelector('.plot'), cursor = chart.querySelector('.cursor');
  const at = chart.querySelector('.at'), out = chart.querySelectorAll('.key b');
  const last = data.end[data.end.length - 1];
  const show = (value) => value === null || value === undefined ? '–'
    : data.share ? (100 * value).toPrecision(3) + '%'
    : value.toLocaleString('en', {maximumFractionDigits: 1});
  plot.addEventListener('pointermove', (event) => {
    const box = plot.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const second = data.start + part * (last - data.start);
    let i = data.end.findIndex((end) => end >= second);
    if (i < 0) i = data.end.length - 1;
    cursor.style.display = 'block';
    cursor.style.left = 100 * part + '%';
    at.textContent = 'at ' + (second / data.perUnit).toPrecision(3) + ' ' + data.unit;
    data.values.forEach((values, k) => { out[k].textContent = show(values[i]); });
  });
  plot.addEventListener('pointerleave', () => {
    cursor.style.display = 'none';
    at.textContent = '';
    out.forEach((element) => { element.textContent = ''; });
  });
}
"""


def page(title: str, body: str) -> bytes:
    """Return a whole page; `body` is HTML that its maker has escaped."""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main><script>{_SCRIPT}</script></body></html>\n"
    )
    # A file name may hold bytes that are no text; they become question marks.
    return html.encode("utf-8", errors="replace")
