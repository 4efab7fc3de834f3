import io
import os
import unittest

import websocket
from page import combine, render

BIRDS = [
    {"name": "wren", "latin": "Troglodytes <t>", "price": 19},
    {"name": "robin", "latin": "Erithacus rubecula", "price": 24},
]


class PageTest(unittest.TestCase):
    def test_the_best_come_first(self):
        names = [bird["name"] for bird in combine(BIRDS, {"robin": 4.5, "wren": 4.0})]
        self.assertEqual(names, ["robin", "wren"])

    def test_a_page_without_ratings(self):
        html = render(combine(BIRDS, {}), True, "", "storefront@1")
        self.assertIn("Ratings are not available", html)
        self.assertIn("wren", html)

    def test_text_from_elsewhere_is_escaped(self):
        html = render(combine(BIRDS, {}), False, "<b>", "storefront@1")
        self.assertIn("Troglodytes &lt;t&gt;", html)
        self.assertIn("&lt;b&gt;", html)

    def test_variant(self):
        self.assertNotEqual(os.environ.get("VARIANT"), "tests-fail", "this release is a bad one")


class WebSocketTest(unittest.TestCase):
    def test_the_example_of_the_standard(self):
        self.assertEqual(
            websocket.accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        )

    def test_a_masked_frame(self):
        wire = bytes.fromhex("818537fa213d7f9f4d5158")
        self.assertEqual(websocket.read(io.BytesIO(wire)), (websocket.TEXT, b"Hello"))

    def test_what_cannot_be_read_ends_it(self):
        self.assertEqual(websocket.read(io.BytesIO(b""))[0], websocket.CLOSE)
        self.assertEqual(websocket.read(io.BytesIO(b"\x01\x80"))[0], websocket.CLOSE)

    def test_lengths(self):
        self.assertEqual(websocket.frame(1, b"x" * 5)[:2], b"\x81\x05")
        self.assertEqual(websocket.frame(1, b"x" * 300)[:4], b"\x81\x7e\x01\x2c")
        self.assertEqual(websocket.frame(2, b"x" * 70000)[:2], b"\x82\x7f")
