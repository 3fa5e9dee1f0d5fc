"""The house checks do catch what they are for, in a planted tree."""

import pathlib
import tempfile
import unittest

import check_includes
import check_length

ROOMS = {"core": {"core"}, "ops": {"ops", "torch"}, "model": {"model", "core", "ops", "torch"}}


class PlantedTree(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.source = pathlib.Path(self._folder.name)

    def tearDown(self):
        self._folder.cleanup()

    def plant(self, path, text):
        file = self.source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def includes(self):
        return check_includes.check(self.source, ROOMS)

    def test_allowed_includes_pass(self):
        self.plant("include/lorikeet/model/a.h", '#include "lorikeet/core/b.h"\n#include <torch/torch.h>\n')
        self.plant("src/model/a.cpp", '#include "lorikeet/model/a.h"\n#include "src/model/private.h"\n')
        self.assertEqual(self.includes(), [])

    def test_a_room_below_is_forbidden_in_source_and_header(self):
        self.plant("src/core/a.cpp", '\n#include "lorikeet/model/a.h"\n')
        self.plant("include/lorikeet/core/a.h", "#  include <lorikeet/ops/a.h>\n")
        self.assertEqual(self.includes(), [
            "include/lorikeet/core/a.h:1: room core may not use room ops",
            "src/core/a.cpp:2: room core may not use room model"])

    def test_a_room_without_libtorch_may_not_include_it(self):
        self.plant("src/core/a.cpp", "#include <ATen/ATen.h>\n")
        self.assertIn("does not see LibTorch", self.includes()[0])

    def test_another_rooms_private_header_is_forbidden(self):
        self.plant("src/model/a.cpp", '#include "src/ops/private.h"\n')
        self.assertIn("which is private", self.includes()[0])

    def test_a_way_up_out_of_the_room_is_forbidden(self):
        self.plant("src/core/a.cpp", '#include "../model/private.h"\n')
        self.plant("include/lorikeet/core/a.h", '\n#include "lorikeet/core/../model/a.h"\n')
        self.assertEqual([offence.split(": ")[0] for offence in self.includes()],
                         ["include/lorikeet/core/a.h:2", "src/core/a.cpp:1"])
        self.assertIn("without ..", self.includes()[0])

    def test_an_undeclared_room_is_noticed(self):
        self.plant("src/attic/a.cpp", "\n")
        self.assertIn("no room attic", self.includes()[0])

    def test_the_601st_line_is_too_much(self):
        self.plant("src/core/a.cpp", "\n" * 600)
        self.assertEqual(check_length.check(self.source), [])
        self.plant("src/core/a.cpp", "\n" * 601)
        self.assertEqual(check_length.check(self.source),
                         ["src/core/a.cpp: 601 lines, the limit is 600"])


if __name__ == "__main__":
    unittest.main()
