"""The page. Text from elsewhere is escaped."""

from html import escape

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Birdhouse</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}
  td {{ padding: .2em 1em .2em 0 }}
  footer {{ color: gray; margin-top: 2em }}
</style>
<h1>Houses for birds</h1>
<p><em>{quote}</em></p>
<table>
{rows}
</table>
<p>{notice}</p>
<p>Live: <output id="live">...</output></p>
<footer>{release}</footer>
<script>
  const feed = new WebSocket(location.href.replace(/^http/, "ws").replace(/\\/$/, "") + "/ws");
  feed.onopen = () => feed.send("somebody looks at the birds");
  feed.onmessage = event => {{ document.getElementById("live").value = event.data }};
</script>
</html>
"""


def combine(birds, stars):
    """Birds with their stars, the best first; without stars where nobody knows them."""
    rated = [bird | {"stars": stars.get(bird["name"])} for bird in birds]
    return sorted(rated, key=lambda bird: -(bird["stars"] or 0))


def render(birds, degraded, quote, release):
    """The page as HTML."""
    notice = "Ratings are not available at the moment." if degraded else ""
    rows = "\n".join(_row(bird) for bird in birds)
    return PAGE.format(quote=escape(quote), rows=rows, notice=notice, release=escape(release))


def _row(bird):
    stars = "" if bird["stars"] is None else f"{bird['stars']:.1f} stars"
    cells = (bird["name"], bird["latin"], f"{bird['price']} EUR", stars)
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
