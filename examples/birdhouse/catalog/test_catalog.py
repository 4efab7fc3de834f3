import os
import unittest

from app import BIRDS, find


class CatalogTest(unittest.TestCase):
    def test_all_birds(self):
        self.assertEqual(find("/birds"), (200, BIRDS))

    def test_one_bird(self):
        status, bird = find("/birds/wren")
        self.assertEqual((status, bird["latin"]), (200, "Troglodytes troglodytes"))

    def test_an_unknown_bird(self):
        self.assertEqual(find("/birds/dodo")[0], 404)

    def test_every_house_has_a_door_and_a_price(self):
        for bird in BIRDS:
            self.assertGreater(bird["door_mm"], 20)
            self.assertGreater(bird["price"], 0)

    def test_variant(self):
        self.assertNotEqual(os.environ.get("VARIANT"), "tests-fail", "this release is a bad one")
