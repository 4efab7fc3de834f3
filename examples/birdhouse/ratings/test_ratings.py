import json
import unittest
from concurrent.futures import ThreadPoolExecutor

import grpc
from app import STARS, Ratings


class RatingsTest(unittest.TestCase):
    def setUp(self):
        self.server = grpc.server(ThreadPoolExecutor(max_workers=2), handlers=[Ratings()])
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def tearDown(self):
        self.channel.close()
        self.server.stop(0).wait()

    def test_all_stars(self):
        answer = self.channel.unary_unary("/birdhouse.Ratings/All")(b"{}", timeout=10)
        self.assertEqual(json.loads(answer), STARS)

    def test_a_chat(self):
        answers = self.channel.stream_stream("/birdhouse.Ratings/Chat")(iter([b"a", b"b"]))
        self.assertEqual(list(answers), [b"a", b"b"])

    def test_stars_are_from_one_to_five(self):
        self.assertTrue(all(1 <= stars <= 5 for stars in STARS.values()))
