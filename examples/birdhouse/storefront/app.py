"""The storefront: what users see, made of what the other services know."""

import re
import time
from json import JSONDecodeError

import grpc

import needs
import page
import websocket
from service import RELEASE, Handler, serve

CART = re.compile(r"/api/cart/([a-z]{1,20})")
BIRD = re.compile(rb"[a-z-]{1,40}")


class Storefront(Handler):
    """Pages, a small API and a WebSocket."""

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/healthz":
            self.reply(200, {"state": "ready"})
        elif path == "/":
            self.home()
        elif path == "/api/birds":
            self.with_birds(lambda found: self.reply(200, found))
        elif path == "/api/song":
            self.sing()
        elif path == "/ws":
            self.echo()
        elif match := CART.fullmatch(path):
            self.ask_cart(f"GET {match[1]}")
        else:
            self.reply(404, {"error": f"no such page: {path}"})

    def do_POST(self):
        path = self.path.partition("?")[0]
        match = CART.fullmatch(path)
        if path == "/api/photos":
            self.reply(200, {"bytes": sum(len(piece) for piece in self.body())})
            return
        wish = b"".join(self.body())
        if match and BIRD.fullmatch(wish):
            self.ask_cart(f"SET {match[1]} {wish.decode()}")
        else:
            self.reply(404, {"error": "POST a bird to /api/cart/NAME, or a photo to /api/photos"})

    def home(self):
        """The page."""
        try:
            quote = needs.quote(self.headers)
        except OSError:
            quote = ""

        def show(found):
            html = page.render(found["birds"], found["degraded"], quote, RELEASE)
            self.reply(200, html.encode(), "text/html; charset=utf-8")

        self.with_birds(show)

    def with_birds(self, then):
        """Birds are a must, ratings would be nice."""
        try:
            birds = needs.birds(self.headers)
        except (OSError, JSONDecodeError) as error:
            self.reply(502, {"error": f"no birds without the catalog: {error}"})
            return
        try:
            stars = needs.ratings(self.headers)
        except (grpc.RpcError, JSONDecodeError):
            stars = None
        birds = page.combine(birds, stars or {})
        then({"release": RELEASE, "degraded": stars is None, "birds": birds})

    def ask_cart(self, line):
        """Pass a line on to the cart."""
        try:
            word, _, value = needs.cart(line).partition(" ")
        except OSError as error:
            self.reply(502, {"error": f"no cart: {error}"})
            return
        self.reply(200, {"answer": word, "wish": value})

    def sing(self):
        """Ten verses in two seconds: an answer that is in flight for a while."""
        self.start_reply(200, "text/plain")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for verse in range(10):
            self.wfile.write(b"8\r\ntweet %d\n\r\n" % verse)
            self.wfile.flush()
            time.sleep(0.2)
        self.wfile.write(b"0\r\n\r\n")

    def echo(self):
        """Say everything back until somebody hangs up."""
        key = self.headers.get("sec-websocket-key")
        if not key:
            self.reply(400, {"error": "this is a WebSocket"})
            return
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.send_header("sec-websocket-accept", websocket.accept(key))
        self.send_header("x-release", RELEASE)
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        self.server.rest(self.connection)
        kind = None
        while kind != websocket.CLOSE:
            kind, data = websocket.read(self.rfile)
            answers = {websocket.PING: websocket.PONG, websocket.PONG: None}
            if (answer := answers.get(kind, kind)) is not None:
                self.wfile.write(websocket.frame(answer, data))
                self.wfile.flush()


if __name__ == "__main__":
    serve(Storefront)
