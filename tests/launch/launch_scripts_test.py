"""scripts/launch: what becomes of a run by its launcher's exit code and status.json, with false programs (fakes.py).

usage: launch_scripts_test.py [CLASS...]; TORCHRUN names the real one for RealTorchrun.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import fakes

SOURCE = pathlib.Path(__file__).resolve().parents[2]
LAUNCH = SOURCE / "scripts" / "launch"
JOB = {"SLURM_JOB_ID": "42", "SLURM_SUBMIT_DIR": str(SOURCE)}
# How each script is called: its launcher is the fake one in PATH.
SCRIPTS = {"torchrun.sh": {}, "mpirun.sh": {}, "srun.sh": JOB, "slurm.sbatch": JOB}


class LaunchTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.fake = pathlib.Path(self._folder.name)
        (self.fake / "bin").mkdir()
        for name, text in fakes.ALL.items():
            file = self.fake / "bin" / name
            file.write_text(text)
            file.chmod(0o755)

    @contextlib.contextmanager
    def afresh(self, **what):
        """A subtest with a folder of its own."""
        with self.subTest(**what):
            self.setUp()
            yield

    def start(self, script, scenario, *arguments, **environment):
        (self.fake / "scenario").write_text("".join(line + "\n" for line in scenario))
        variables = {"PATH": f"{self.fake}/bin:/usr/bin:/bin", "FAKE": str(self.fake), "PAUSE_SECONDS": "0",
                     "HOME": str(self.fake), "LORIKEET": f"{self.fake}/bin/lorikeet", **SCRIPTS[script], **environment}
        return subprocess.Popen([LAUNCH / script, *(arguments or ["run.yaml"])], env=variables, cwd=self.fake,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run_script(self, *arguments, **environment):
        process = self.start(*arguments, **environment)
        self.output, _ = process.communicate(timeout=300)
        return process.returncode

    def lines(self, name):
        file = self.fake / name
        return file.read_text().splitlines() if file.exists() else []

    def starts(self):
        return len(self.lines("starts"))

    def leave_status(self, state):
        (self.fake / "runs" / "r").mkdir(parents=True)
        (self.fake / "runs" / "r" / "status.json").write_text(f'{{\n "state": "{state}"\n}}\n')

    def wait_until_training(self, process):
        for _ in range(2400):
            if (self.fake / "waiting").exists():
                return
            time.sleep(0.05)
        process.kill()
        self.fail("the run did not begin: " + process.communicate()[0])

    def signal_script(self, script, number, scenario=("waits 0",), arguments=(), **environment):
        process = self.start(script, scenario, *arguments, **environment)
        self.wait_until_training(process)
        process.send_signal(number)
        self.output, _ = process.communicate(timeout=300)
        return process.returncode


class Outcomes(LaunchTest):
    def test_a_finished_run_ends_with_0(self):
        for script in SCRIPTS:
            with self.afresh(script=script):
                self.assertEqual(self.run_script(script, ["finished 0"]), 0, script)
                self.assertEqual(self.starts(), 1)

    def test_a_diverged_run_ends_with_5_and_does_not_come_back(self):
        for script in SCRIPTS:
            with self.afresh(script=script):
                self.assertEqual(self.run_script(script, ["diverged 5"]), 5, script)
                self.assertEqual(self.starts(), 1)
                self.assertEqual(self.lines("slurm"), [])

    def test_a_run_that_had_diverged_before_does_not_come_back(self):
        for script in SCRIPTS:
            with self.afresh(script=script):
                self.leave_status("diverged")
                self.assertEqual(self.run_script(script, ["- 5"]), 5, script)
                self.assertEqual(self.starts(), 1)

    def test_refused_configuration_data_and_checkpoints_do_not_come_back(self):
        for code in (2, 3, 4):
            for script in ("mpirun.sh", "srun.sh", "slurm.sbatch"):
                with self.afresh(script=script, code=code):
                    self.assertEqual(self.run_script(script, [f"- {code}"]), code)
                    self.assertEqual(self.starts(), 1)

    def test_a_finished_run_is_finished_whatever_the_launcher_says(self):
        self.assertEqual(self.run_script("torchrun.sh", ["finished 9"]), 0)

    def test_an_old_status_explains_no_crash(self):
        for state in ("finished", "preempted", "failed"):
            with self.afresh(state=state):
                self.leave_status(state)
                self.assertEqual(self.run_script("mpirun.sh", ["- 9"] * 9), 9)
                self.assertEqual(self.starts(), 3)

    def test_a_preempted_run_goes_on_in_place(self):
        for script in ("mpirun.sh", "srun.sh"):
            with self.afresh(script=script):
                self.assertEqual(self.run_script(script, ["preempted 75"] * 5 + ["finished 0"]), 0)
                self.assertEqual(self.starts(), 6)

    def test_a_crash_whose_survivors_were_preempted_is_a_crash(self):
        # A launcher sends SIGTERM to the ranks that are left when one dies: they leave a checkpoint, if they can.
        for script in SCRIPTS:
            with self.afresh(script=script):
                self.assertIn(self.run_script(script, ["preempted 137"] * 9), (1, 137))
                self.assertEqual(self.starts(), 3)
                self.assertEqual(self.lines("slurm"), [])
            with self.afresh(script=script, progress=True):
                scenario = [f"preempted 137 step_0000000{i}" for i in range(6)] + ["finished 0"]
                self.assertEqual(self.run_script(script, scenario), 0)
                self.assertEqual(self.starts(), 7)

    def test_what_comes_back_resumes_by_itself(self):
        arguments = ["run.yaml", "--resume", "never", "--set", "a=b c", "--resume=x", "--allow-changed-data"]
        self.assertEqual(self.run_script("mpirun.sh", ["preempted 75", "finished 0"], *arguments), 0)
        self.assertEqual(self.lines("starts"), [
            "pretrain run.yaml --resume never --set a=b c --resume=x --allow-changed-data",
            "pretrain run.yaml --set a=b c --allow-changed-data"])

    def test_crashes_without_progress_are_given_up(self):
        for script in SCRIPTS:
            with self.afresh(script=script):
                code = self.run_script(script, ["running 137"] * 9)
                self.assertEqual(code, 1 if script == "torchrun.sh" else 137)
                self.assertEqual(self.starts(), 3)
                self.assertEqual(self.lines("slurm"), [])
        self.setUp()
        self.assertEqual(self.run_script("mpirun.sh", ["failed 1"] * 9, MAX_CRASHES="1"), 1)
        self.assertEqual(self.starts(), 1)

    def test_crashes_with_progress_are_not_counted(self):
        for script in SCRIPTS:
            with self.afresh(script=script):
                scenario = [f"running 137 step_0000000{i}" for i in range(6)] + ["finished 0"]
                self.assertEqual(self.run_script(script, scenario), 0)
                self.assertEqual(self.starts(), 7)

    def test_an_unfinished_checkpoint_is_no_progress(self):
        scenario = [f"running 137 step_0000000{i}.tmp" for i in range(6)]
        self.assertEqual(self.run_script("mpirun.sh", scenario), 137)
        self.assertEqual(self.starts(), 3)


class Requests(LaunchTest):
    def test_a_script_asked_to_stop_asks_the_run_once_and_leaves(self):
        for script in SCRIPTS:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                with self.afresh(script=script, signal=number):
                    self.assertEqual(self.signal_script(script, number, ["waits 0", "finished 0"]), 75)
                    self.assertEqual(self.starts(), 1)
                    asked = [line for line in self.lines("slurm") if line.startswith("scancel")]
                    is_slurm = SCRIPTS[script] is JOB
                    self.assertEqual(asked, ["scancel --signal=TERM 42"] if is_slurm else [])

    def test_mpirun_itself_is_not_asked_where_a_rank_is_its_child(self):
        self.assertEqual(self.signal_script("mpirun.sh", signal.SIGTERM), 75)
        self.assertEqual(self.lines("launcher_signals"), [])
        self.setUp()
        self.assertEqual(
            self.signal_script("mpirun.sh", signal.SIGTERM, RANKS_ELSEWHERE="yes", CHECKPOINT_SECONDS="0.3"),
            75)
        self.assertEqual(self.lines("launcher_signals"), ["mpirun: USR1", "mpirun: TERM"])

    def test_control_c_reaches_the_run_once_as_a_request(self):
        process = self.start("torchrun.sh", ["waits 0"])
        self.wait_until_training(process)
        # What a terminal does: SIGINT to the whole foreground group, which is the script's own and nobody else's.
        group = os.getpgid(process.pid)
        self.assertNotEqual(os.getpgid(int(self.lines("pid")[0])), group)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)
        self.assertEqual(process.returncode, 75)
        self.assertEqual(self.lines("signals"), [])

    def test_a_request_during_the_pause_ends_it(self):
        process = self.start("mpirun.sh", ["running 137", "finished 0"], PAUSE_SECONDS="2")
        while not (self.fake / "runs/r/status.json").exists():
            time.sleep(0.05)
        time.sleep(0.7)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=300)
        self.assertEqual(process.returncode, 75)
        self.assertEqual(self.starts(), 1)


class Slurm(LaunchTest):
    def test_a_preempted_run_goes_back_into_the_queue(self):
        self.assertEqual(self.run_script("slurm.sbatch", ["preempted 75", "finished 0"]), 75)
        self.assertEqual(self.lines("slurm"), ["scontrol requeue 42"])
        self.assertEqual(self.starts(), 1)

    def test_the_time_limit_requeues(self):
        self.assertEqual(self.signal_script("slurm.sbatch", signal.SIGUSR1), 75)
        self.assertEqual(self.lines("slurm"), ["scancel --signal=TERM 42", "scontrol requeue 42"])

    def test_scancel_does_not_requeue(self):
        self.assertEqual(self.signal_script("slurm.sbatch", signal.SIGTERM), 75)
        self.assertEqual(self.lines("slurm"), ["scancel --signal=TERM 42"])

    def test_a_requeued_job_resumes_by_itself(self):
        arguments = ["run.yaml", "--resume", "never"]
        self.assertEqual(self.run_script("slurm.sbatch", ["finished 0"], *arguments, SLURM_RESTART_COUNT="1"), 0)
        self.assertEqual(self.lines("starts"), ["pretrain run.yaml"])

    def test_a_refused_requeue_says_what_to_do(self):
        self.assertEqual(self.run_script("slurm.sbatch", ["preempted 75"], SCONTROL_CODE="1"), 75)
        self.assertIn("error: job 42 cannot be requeued\nhint: submit it again", self.output)

    def test_the_scripts_folder_is_that_of_the_submission(self):
        self.assertEqual(self.run_script("slurm.sbatch", [], SLURM_SUBMIT_DIR=str(self.fake)), 2)
        self.assertIn(f"error: {self.fake}: holds no scripts/launch/supervise.sh\nhint: submit from", self.output)
        self.assertEqual(
            self.run_script("slurm.sbatch", ["finished 0"], SLURM_SUBMIT_DIR=str(self.fake), LORIKEET_HOME=str(SOURCE)),
            0)


class Arguments(LaunchTest):
    def launched(self, script, *arguments, **environment):
        (self.fake / "starts").unlink(missing_ok=True)
        self.assertEqual(self.run_script(script, ["finished 0"], *arguments, **environment), 0)
        return self.lines("launchers")[-1].replace(f"{self.fake}/bin/", "")

    def test_torchrun_starts_a_process_for_each_gpu(self):
        common = "torchrun --no-python --max-restarts=3 --nproc-per-node=3 "
        self.assertEqual(self.launched("torchrun.sh", "c.yaml", "--set", "x=1"),
                         common + "--standalone lorikeet pretrain c.yaml --set x=1")
        self.assertEqual(self.launched("torchrun.sh", "--nproc-per-node=2", "--", "c.yaml"),
                         common + "--standalone --nproc-per-node=2 lorikeet pretrain c.yaml")
        self.assertEqual(self.launched("torchrun.sh", "--nnodes=8", "--rdzv-endpoint=a:1", "--", "c.yaml"),
                         common + "--nnodes=8 --rdzv-endpoint=a:1 lorikeet pretrain c.yaml")
        (self.fake / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
        self.assertIn("--nproc-per-node=1 ", self.launched("torchrun.sh", "c.yaml"))

    def test_mpirun_binds_nobody_and_exports_where_ranks_meet(self):
        self.assertEqual(self.launched("mpirun.sh", "-np", "4", "--", "c.yaml"),
                         "mpirun --bind-to none -x MASTER_PORT -np 4 lorikeet pretrain c.yaml")
        environment = dict(line.split("=") for line in self.lines("launcher_environment"))
        self.assertTrue(20000 <= int(environment["MASTER_PORT"]) < 30000)
        self.assertEqual(self.launched("mpirun.sh", "c.yaml", MASTER_ADDR="n1", MASTER_PORT="5"),
                         "mpirun --bind-to none -x MASTER_PORT -x MASTER_ADDR lorikeet pretrain c.yaml")
        self.assertIn("MASTER_ADDR=n1", self.lines("launcher_environment"))
        self.assertIn("MASTER_PORT=5", self.lines("launcher_environment"))

    def test_srun_ends_a_step_with_its_first_dead_task(self):
        common = "srun --kill-on-bad-exit=1 --distribution=block "
        self.assertEqual(self.launched("srun.sh", "-n", "2", "--", "c.yaml"), common + "-n 2 lorikeet pretrain c.yaml")
        self.assertEqual(self.launched("slurm.sbatch", "c.yaml"), common + "lorikeet pretrain c.yaml")

    def test_mistakes_are_one_error_with_a_hint(self):
        for script in SCRIPTS:
            with self.subTest(script):
                self.assertEqual(self.run_script(script, [], "--"), 2)
                self.assertRegex(self.output, "^error: no configuration was given\nhint: ")
                self.assertEqual(self.run_script(script, [], LORIKEET="/none"), 2)
                self.assertRegex(self.output, "^error: /none: no such program\nhint: ")
                self.assertEqual(self.run_script(script, [], "broken.yaml"), 2)
                self.assertEqual(self.output, "error: broken.yaml: no\n")
        self.assertEqual(self.run_script("srun.sh", [], SLURM_JOB_ID=""), 2)
        self.assertRegex(self.output, "^error: no Slurm allocation")
        self.assertEqual(self.run_script("torchrun.sh", [], TORCHRUN="/none"), 2)
        self.assertRegex(self.output, "^error: /none: no such program")
        self.assertEqual(self.starts(), 0)


class RealTorchrun(LaunchTest):
    """The real torchrun with the false program: what it really ends with."""

    def setUp(self):
        super().setUp()
        if "TORCHRUN" not in os.environ:
            self.skipTest("TORCHRUN is not set")
        self.variables = {"TORCHRUN": os.environ["TORCHRUN"], "OMP_NUM_THREADS": "1"}

    def test_finished_and_diverged(self):
        self.assertEqual(self.run_script("torchrun.sh", ["finished 0"], "--nproc-per-node=1", "--", "r.yaml",
                                         **self.variables), 0, self.output)
        (self.fake / "starts").unlink()
        self.assertEqual(self.run_script("torchrun.sh", ["diverged 5"] * 4, "--max-restarts=1", "--nproc-per-node=1",
                                         "--", "r.yaml", **self.variables), 5, self.output)
        self.assertEqual(self.starts(), 2)

    def test_a_request_is_handed_on(self):
        code = self.signal_script("torchrun.sh", signal.SIGTERM, ["waits 0"],
                                  ["--nproc-per-node=1", "--", "r.yaml"], **self.variables)
        self.assertEqual(code, 75, self.output)


if __name__ == "__main__":
    unittest.main()
