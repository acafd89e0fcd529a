"""The cost of a run without work, with our deployments and with Prefect's defaults.

Run it with `python -m benchmarks.empty_runs [--job JOB] [--runs 10] [--idle-seconds 60]`. Each way
has a Prefect server and a worker of its own, and both have the same empty database. Runs are asked
for in turns, each at a random moment, because a worker looks for runs at intervals. Then both are
left alone.

Prefect's defaults are `prefect server start`, `prefect worker start`, and a deployment of a file
with the pull step that `prefect deploy` writes for local code. The job started as Prefect's own
engine shows what `flows/engine.py` saves, and a flow that does nothing, deployed as ours are, what
of that is Prefect's own.
"""

import argparse
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from sqlalchemy import create_engine

from benchmarks.stage import machine
from demo.api import PrefectApi
from demo.embedded import embedded_server
from demo.environment import PROJECT, clean_environment
from demo.ports import LOCALHOST, free_port
from demo.processes import Child, start_child, wait_until
from demo.sample.loading import identify
from demo.servers import PrefectServer, prefect_command
from deployments.names import DEPLOYMENT, WORK_POOL
from flows.jobs import JOBS
from maintenance.schema.versions import create_tables
from maintenance.settings import DRIVER

LOGIN = f"benchmark:{secrets.token_hex(16)}"
RUN_SECONDS = 120.0
START_SECONDS = 90.0
STOP_SECONDS = 10.0
POLL_SECONDS = 10.0
"""Of Prefect's worker by default; requests come at a random moment of it."""
WORKERS_LOGGER = "prefect.flow_runs.worker"
ENTRYPOINT_OF_NOTHING = "benchmarks.nothing.nothing"
PREFECTS_ENGINE = "python -m prefect.engine"
NOT_OURS = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}


@dataclass
class Way:
    """One way of deploying a job, and what its runs cost."""

    name: str
    api: PrefectApi
    server: Child
    worker: Child
    deployment: str
    cpu: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def run(self) -> None:
        """Start a run, wait for its end, and record its cost."""
        worker = self._prefect_worker()
        before = of_children(worker)
        asked = datetime.now(UTC)
        run = self.api.start_run(self.deployment, {})
        wait_until(lambda: self._ended(run), RUN_SECONDS, "a run", [self.server, self.worker])
        # The worker adds a process to its children's time when that has ended.
        wait_until(lambda: not worker.children(), RUN_SECONDS, "its process", [self.worker])
        state = self.api.state(run)
        if state is None or not state.completed:
            raise RuntimeError(f"{self.name}: {state}{self.worker.last_words()}")
        self.cpu.append(of_children(worker) - before)
        wait_until(lambda: bool(self._lines(run)), RUN_SECONDS, "its log", [self.server])
        self.waits.append((self._lines(run)[0] - asked).total_seconds())

    def idle_costs(self) -> dict[str, float]:
        """Return the processor seconds that server and worker have used so far."""
        return {"server": of_family(self.server), "worker": of_family(self.worker)}

    def _ended(self, run: str) -> bool:
        state = self.api.state(run)
        return state is not None and state.final

    def _lines(self, run: str) -> list[datetime]:
        query = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        return [
            datetime.fromisoformat(line["timestamp"])
            for line in self.api.ask("POST", "/logs/filter", query)
            if line["name"] != WORKERS_LOGGER
        ]

    def _prefect_worker(self) -> psutil.Process:
        """Return the process that starts runs: the worker itself, or its last child."""
        process = psutil.Process(self.worker.process.pid)
        family = [process, *process.children(recursive=True)]
        (found,) = [one for one in family if "prefect" in one.cmdline()[:3]]
        return found


def of_children(process: psutil.Process) -> float:
    """Return the processor seconds of the descendants of a process that have ended."""
    times = process.cpu_times()
    return float(times.children_user + times.children_system)


def of_family(child: Child) -> float:
    """Return the processor seconds of a process and those that it has started."""
    process = psutil.Process(child.process.pid)
    family = [process, *process.children(recursive=True)]
    return sum(float(sum(one.cpu_times()[:4])) for one in family)


@contextmanager
def ours(job: str, home: Path, variables: Mapping[str, str]) -> Iterator[Way]:
    """Deploy the job as this project does."""
    environment = clean_environment(os.environ, home)
    with PrefectServer(home, home, environment) as server:
        server.wait_until_ready()
        environment = {**environment, **server.client_settings, **variables}
        environment["PREFECT_WORKER_WEBSERVER_PORT"] = str(free_port())
        command = [sys.executable, "-m", "deployments"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        switch_schedules_off(server.api)
        command = [sys.executable, "-m", "deployments.worker"]
        worker = start_child("our worker", command, home / "worker.log", environment)
        try:
            wait_for_worker(server.api, WORK_POOL, worker)
            yield Way("ours", server.api, server.child, worker, f"{job}/{DEPLOYMENT}")
        finally:
            worker.stop(STOP_SECONDS)


@contextmanager
def defaults(job: str, home: Path, variables: Mapping[str, str]) -> Iterator[Way]:
    """Deploy the job with Prefect's defaults."""
    address = f"http://{LOCALHOST}:{free_port()}"
    environment = {**clean_environment(os.environ, home), **variables, **NOT_OURS}
    environment |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": f"{address}/api"}
    environment |= {"PREFECT_SERVER_API_AUTH_STRING": LOGIN, "PREFECT_API_AUTH_STRING": LOGIN}
    environment["PREFECT_UI_STATIC_DIRECTORY"] = str(home / "ui")
    port = address.rpartition(":")[2]
    command = prefect_command("server", "start", "--host", LOCALHOST, "--port", port)
    server = start_child("Prefect's server", command, home / "server.log", environment)
    api = PrefectApi(address, LOGIN)
    with ExitStack() as stack:
        stack.callback(server.stop, STOP_SECONDS)
        stack.callback(api.close)
        wait_until(api.answers, START_SECONDS, "Prefect's server", [server])
        api.ask("POST", "/work_pools/", {"name": WORK_POOL, "type": "process"})
        flow = api.ask("POST", "/flows/", {"name": job})["id"]
        module = job.replace("-", "_")
        deployment = {
            "name": DEPLOYMENT,
            "flow_id": flow,
            "work_pool_name": WORK_POOL,
            "entrypoint": f"flows/{module}.py:{module}",
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}
            ],
        }
        api.ask("POST", "/deployments/", deployment)
        command = prefect_command("worker", "start", "--pool", WORK_POOL)
        worker = start_child("Prefect's worker", command, home / "worker.log", environment)
        stack.callback(worker.stop, STOP_SECONDS)
        wait_for_worker(api, WORK_POOL, worker)
        yield Way("Prefect's defaults", api, server, worker, f"{job}/{DEPLOYMENT}")


def nothing(like: Way) -> Way:
    """Deploy an empty flow in the same way as another one."""
    return beside(like, "a flow that does nothing, as ours", "nothing", ENTRYPOINT_OF_NOTHING)


def plain(like: Way, job: str) -> Way:
    """Deploy the job as another way does, but for what its runs are started as."""
    module = job.replace("-", "_")
    command = {"command": PREFECTS_ENGINE}
    return beside(
        like, f"ours, as `{PREFECTS_ENGINE}`", job, f"flows.{module}.{module}", "plain", command
    )


def beside(
    like: Way,
    way: str,
    flow: str,
    entrypoint: str,
    name: str = DEPLOYMENT,
    job_variables: Mapping[str, str] | None = None,
) -> Way:
    """Make one more deployment for the server and the worker of another way."""
    found = like.api.ask("GET", f"/deployments/name/{like.deployment}")
    kept = ("work_pool_name", "job_variables", "pull_steps", "concurrency_options")
    deployment = {field: found[field] for field in kept} | {
        "name": name,
        "flow_id": like.api.ask("POST", "/flows/", {"name": flow})["id"],
        "entrypoint": entrypoint,
    }
    if job_variables is not None:
        deployment["job_variables"] = dict(job_variables)
    like.api.ask("POST", "/deployments/", deployment)
    return Way(way, like.api, like.server, like.worker, f"{flow}/{name}")


def switch_schedules_off(api: PrefectApi) -> None:
    """Pause all schedules, so that only requested runs start."""
    for deployment in api.ask("POST", "/deployments/filter", {}):
        for schedule in deployment["schedules"]:
            path = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
            api.ask("PATCH", path, {"active": False})


def wait_for_worker(api: PrefectApi, pool: str, worker: Child) -> None:
    """Wait until the server knows the worker and all its requests have ended."""

    def ready() -> bool:
        workers: list[Any] = api.ask("POST", f"/work_pools/{pool}/workers/filter", {})
        runs = api.ask("POST", "/flow_runs/count", {"flow_runs": going})
        return bool(workers) and runs == 0

    going = {"state": {"type": {"not_any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}}
    wait_until(ready, START_SECONDS, worker.name, [worker])


def measure(ways: list[Way], runs: int, idle_seconds: float) -> dict[str, dict[str, float]]:
    """Run all ways in turns, then leave them idle; return the idle cost in percent of a core."""
    draw = random.Random(1)  # noqa: S311 - not for secrets
    for number in range(runs + 1):
        for way in ways:
            time.sleep(draw.uniform(0, POLL_SECONDS))
            way.run()
            if number == 0:  # the first one only warms the caches up
                way.cpu.clear()
                way.waits.clear()
    before = {way.name: way.idle_costs() for way in ways}
    time.sleep(idle_seconds)
    return {
        way.name: {
            part: 100 * (after - before[way.name][part]) / idle_seconds
            for part, after in way.idle_costs().items()
        }
        for way in ways
    }


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job", choices=JOBS, default="process-purge-retries")
    parser.add_argument("--runs", type=int, default=10, help="of each way (default 10)")
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="vb-", ignore_cleanup_errors=True)
        base = Path(stack.enter_context(temporary))
        server = stack.enter_context(embedded_server(base / "pg"))
        url = server.create_database("empty")
        engine = create_engine(url.set(drivername=DRIVER))
        create_tables(engine)
        with engine.begin() as connection:
            identify(connection, datetime.now(UTC))
        engine.dispose()
        for name in ("private", "public", "ours", "defaults"):
            (base / name).mkdir()
        variables = {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "STORAGE_ROOT": str(base),
        }
        makers: dict[str, Callable[..., Any]] = {"defaults": defaults, "ours": ours}
        ways = [
            stack.enter_context(make(options.job, base / name, variables))
            for name, make in makers.items()
        ]
        deployed = ways[-1]
        ways += [plain(deployed, options.job), nothing(deployed)]
        idle = measure(ways, options.runs, options.idle_seconds)
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}\n{options.job}, {options.runs} runs each\n")
    print("| way | CPU of a run | least | request to first line | idle server | idle worker |")
    print("|---|--:|--:|--:|--:|--:|")
    for way in ways:
        costs = idle[way.name]  # those of the last two are ours, too
        print(
            f"| {way.name} | {median(way.cpu):.2f} s | {min(way.cpu):.2f} s"
            f" | {median(way.waits):.1f} s | {costs['server']:.1f} % | {costs['worker']:.1f} % |"
        )


if __name__ == "__main__":
    main()
