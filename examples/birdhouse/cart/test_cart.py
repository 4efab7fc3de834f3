import tempfile
import unittest
from pathlib import Path

from app import Store, answer


class CartTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "cart.log"

    def open(self):
        store = Store(self.path)
        self.addCleanup(store.file.close)
        return store

    def test_what_is_set_can_be_got(self):
        store = self.open()
        self.assertEqual(answer(store, "GET anna"), "NONE")
        self.assertEqual(answer(store, "SET anna wren"), "OK")
        self.assertEqual(answer(store, "get anna"), "VALUE wren")

    def test_it_survives(self):
        answer(self.open(), "SET anna wren")
        answer(self.open(), "SET anna barn owl")
        self.assertEqual(answer(self.open(), "GET anna"), "VALUE barn owl")

    def test_a_line_cut_short_is_dropped(self):
        self.path.write_bytes(b"anna wren\nbert ro")
        store = self.open()
        self.assertEqual(answer(store, "GET bert"), "NONE")
        answer(store, "SET carl robin")
        self.assertEqual(self.path.read_bytes(), b"anna wren\ncarl robin\n")

    def test_nonsense(self):
        store = self.open()
        for line in ("", "SET", "SET anna", "GET", "GET a b", "DROP anna"):
            self.assertTrue(answer(store, line).startswith("ERROR"), line)
        self.assertEqual(answer(store, "PING you"), "PING you")
