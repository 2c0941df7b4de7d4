"""The samples of the page are run as they stand, against servers at other addresses."""

import asyncio
import os
import re
import unittest

from .faulty import Good

README = os.path.join(os.path.dirname(__file__), "..", "README.md")


class Readme(unittest.TestCase):
    def test_the_samples_work(self):
        with open(README, encoding="utf-8") as file:
            samples = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
        self.assertEqual(len(samples), 5)
        for sample in samples:
            compile(sample, README, "exec")
        with Good() as server:
            names = {}
            for sample in samples[:3]:
                exec(re.sub(r'"(http|unix):[^"]*"', f'"{server.url}"', sample), names)
                if "ids" in names:
                    self.assertEqual(len(asyncio.run(names.pop("ids")())), 6)
                else:
                    names["client"].close()
            self.assertEqual(len(names["batch"]), 1000)
            self.assertGreater(names["ticket"], 0)
