"""`trading-platform demo`: materialize what is not current, promote to paper, trade the stretch with a hot swap in it, explain an order."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from trading_platform.assets.bring_current import Step, bring_current
from trading_platform.assets.bundles import NO_DATA, cutoffs_of
from trading_platform.assets.graph import Graph, build_graph
from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.live import SESSIONS
from trading_platform.assets.pipelines import PIPELINES, Pipeline
from trading_platform.assets.reading import reader
from trading_platform.assets.workplace import Workplace
from trading_platform.automation.sensors import current_promotion, stage
from trading_platform.config import Settings, load_settings
from trading_platform.contracts.errors import CorruptionError
from trading_platform.definitions import build_definitions
from trading_platform.demo.explain import begin_walk, finish_walk, show_links
from trading_platform.demo.processes import Child
from trading_platform.demo.screen import Bars, Screen
from trading_platform.demo.stretch import Stretch, write_stretch
from trading_platform.demo.summary import Part, Summary, closed_sessions, journal_head, summarise
from trading_platform.demo.trade import Request, planned_rows, trade
from trading_platform.registry.lineage import NOT_RE_EXECUTED, Link, broken
from trading_platform.registry.redis_server import RedisServer

if TYPE_CHECKING:
    import dagster as dg

LIFT_AHEAD_S = 1.0  # how long the demo waits for a pipeline to end before it lifts what is closed
TRADED_ASSETS = ("live_journal", "live_parity", "feed_skew", "session_report")


class Demo:
    """One run of the demo: settings, the graph and the instance it works on, and a screen."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, screen: Screen) -> None:
        self.settings = settings
        self.instance = instance
        self.screen = screen
        self.place = Workplace(settings)
        self.graph: Graph = build_graph()
        self.definitions = build_definitions(**overrides_of(settings))
        self.trading = 0  # pipelines that still trade
        self._heads: dict[Pipeline, int] = {}
        self._lifted_ahead: set[str] = set()

    def materialize(self, assets: Sequence[str], partitions: dict[str, Sequence[str]] | None = None) -> list[Step]:
        """Bring some assets up to date, upstream first."""
        return bring_current(self.definitions, self.graph, self.place, self.instance, partitions, list(assets), self.screen.step)

    def build(self) -> dict[str, list[str]]:
        """Bars to promoted bundles; returns pipeline name -> training cutoffs."""
        self.screen.title("assets")
        models = {pipeline.asset(base) for pipeline in PIPELINES for base in ("model_bundle", "promotion")}
        beside = [name for name, node in self.graph.nodes.items() if name not in models and models & set(node.recipe.upstream)]
        self.materialize([name for name in self.graph.nodes if name not in (*models, *beside) and name not in self.after_trading()])
        cutoffs = {pipeline.name: cutoffs_of(self.place, self.instance, pipeline) for pipeline in PIPELINES}
        for pipeline in PIPELINES:
            for base in ("model_bundle", "promotion"):
                self.materialize([pipeline.asset(base)], {pipeline.asset(base): cutoffs[pipeline.name]})
        self.materialize([name for name in beside if name not in self.after_trading()])
        return cutoffs

    def after_trading(self) -> list[str]:
        """Assets that need a traded session: the journal's and whatever is made from them, in order."""
        found: list[str] = []
        for name, node in self.graph.nodes.items():
            if name in TRADED_ASSETS or any(upstream in found for upstream in node.recipe.upstream):
                found.append(name)
        return found

    def trade(self, cutoffs: dict[str, list[str]]) -> Iterator[tuple[Pipeline, Summary]]:
        """Trade the stretch of every pipeline that has data, side by side: an account, a venue, a runner and a Redis each.

        Yields each when it has ended, while others still trade.
        """
        self.screen.title("trading")
        # Here and not in the threads: what imports compiled kernels waits for their compiler's lock as well as for Python's import locks.
        ready = [self._prepare(pipeline, cutoffs[pipeline.name]) for pipeline in PIPELINES if cutoffs[pipeline.name] != [NO_DATA]]
        with self.screen.bars() as bars, ThreadPoolExecutor(len(PIPELINES), "trade") as pool:
            going = {pool.submit(self._trade, stretch, requests, bars): stretch.pipeline for stretch, requests in ready}
            while going:
                ended, _ = wait(going, LIFT_AHEAD_S, FIRST_COMPLETED)
                for one in ended:
                    pipeline = going.pop(one)
                    self.trading = len(going)
                    yield pipeline, one.result()
                if not ended:
                    self._lift_ahead(list(going.values()))

    def _prepare(self, pipeline: Pipeline, cutoffs: Sequence[str]) -> tuple[Stretch, list[Request]]:
        """A pipeline's stretch, and its bundles: the second is asked for before the first row it may trade."""
        out = reader(self.instance, self.place, pipeline.bars, pipeline.asset("universe"))
        stretch = write_stretch(out, pipeline, self._folder(pipeline))
        self.screen.say(f"  {pipeline.name}: {stretch.instruments} names, {stretch.rows} rows, {stretch.first} to {stretch.last}")
        return stretch, [self._request(pipeline, cutoff, stretch) for cutoff in cutoffs]

    def _trade(self, stretch: Stretch, requests: list[Request], bars: Bars) -> Summary:
        pipeline = stretch.pipeline
        account = pipeline.account(self.settings.account)
        with RedisServer() as redis:
            place = Workplace(self.settings.model_copy(update={"account": account, "redis_url": redis.url}))
            before = self._heads[pipeline] = journal_head(place.settings.journal_path)
            bar = bars.add(f"{pipeline.name} rows", stretch.rows)
            trade(place, stretch, account, redis.url, requests, lambda r: stage(place, pipeline.slot, r.label, r.bundle_id), bar.at)
        return summarise(place.settings.journal_path, before, planned_rows(requests, stretch.rows))

    def _folder(self, pipeline: Pipeline) -> Path:
        return self.settings.home / "demo" / pipeline.name

    def _request(self, pipeline: Pipeline, cutoff: str, stretch: Stretch) -> Request:
        promoted = current_promotion(self.instance, self.place, pipeline, cutoff)
        if promoted is None or not promoted.facts.get("promoted"):
            raise CorruptionError(f"no promotion for the cutoff {cutoff}", pipeline.asset("promotion"), "look at its run: make dev")
        return Request(stretch.cutoffs[cutoff], str(promoted.facts["label"]), str(promoted.facts["bundle_id"]))

    def lift(self, sessions: Sequence[str]) -> None:
        """Bring traded sessions into the lake and judge them."""
        self.instance.add_dynamic_partitions(str(SESSIONS.name), list(sessions))
        for asset in TRADED_ASSETS:
            steps = bring_current(self.definitions, self.graph, self.place, self.instance, {asset: sessions}, [asset])
            ran = {step.partition for step in steps if step.ran}
            if asset == "live_journal":
                ran |= self._lifted_ahead & set(sessions)
            self.screen.say(f"  [green]materialized[/green] {asset}: {len(ran)} of {len(steps)} sessions")

    def _lift_ahead(self, pipelines: Sequence[Pipeline]) -> None:
        """Lift what is closed of journals still being written: another processor trades, this one would wait."""
        from trading_platform.assets import dbt_cli  # noqa: F401  (a second that the marts need not wait for)

        for pipeline in pipelines:
            path = settings_of(self.settings, pipeline).journal_path
            closed = closed_sessions(path, self._heads[pipeline]) if path.is_file() else []
            if closed:
                self.instance.add_dynamic_partitions(str(SESSIONS.name), closed)
                steps = bring_current(self.definitions, self.graph, self.place, self.instance, {"live_journal": closed}, ["live_journal"])
                self._lifted_ahead |= {step.partition for step in steps if step.ran}

    def build_marts(self) -> None:
        """What is made from all sessions together."""
        self.screen.title("after the sessions")
        self.materialize([name for name in self.after_trading() if name not in TRADED_ASSETS])


def overrides_of(settings: Settings) -> dict[str, str]:
    """What the code location needs to come to the same settings."""
    given = {"home": str(settings.home), "profile": settings.profile, "account": settings.account}
    return given if settings.data is None else {**given, "data": str(settings.data)}


def run_demo(settings: Settings, screen: Screen | None = None) -> int:
    """The whole demo; 0 when everything it promises happened and every link of the explained orders is OK, else 1."""
    screen = screen or Screen()
    source = "the boxed data" if settings.data is None else str(settings.data)
    screen.say(f"[bold]trading-platform demo[/bold] on {source}; everything it writes is in {settings.home}")
    screen.say("profile demo: limits relaxed for sample data, paper only (trading_platform/profiles/demo.yaml says what and why)")
    with prepare_instance(settings) as instance:
        demo = Demo(settings, instance, screen)
        gc.freeze()  # what is imported stays: neither the collections to come nor the last one need walk half a million objects
        cutoffs = demo.build()
        traded: dict[Pipeline, Summary] = {}
        walks: dict[Pipeline, Child] = {}
        with ExitStack() as children:

            def walk(pipelines: Iterable[Pipeline]) -> None:
                """Begin to explain an order of each: a walk reads what the assets after trading neither make nor change."""
                for one in pipelines:
                    if one not in walks and traded[one].order_id:
                        walks[one] = children.enter_context(begin_walk(settings_of(settings, one), traded[one].order_id))

            for pipeline, summary in demo.trade(cutoffs):
                traded[pipeline] = summary
                if not demo.trading:
                    walk([pipeline])
                demo.lift(summary.sessions)
            walk(traded)
            demo.build_marts()
            in_order = [pipeline for pipeline in PIPELINES if pipeline in traded]
            links = {pipeline: finish_walk(walks[pipeline]) for pipeline in in_order if pipeline in walks}
    return show(settings, {pipeline: traded[pipeline] for pipeline in in_order}, links, screen)


def settings_of(settings: Settings, pipeline: Pipeline) -> Settings:
    """The settings with the account that a pipeline trades."""
    return load_settings(**{**overrides_of(settings), "account": pipeline.account(settings.account)})


def show(settings: Settings, traded: Mapping[Pipeline, Summary], walks: Mapping[Pipeline, list[Link]], screen: Screen) -> int:
    """The table of the sessions, the lineage of one order per pipeline, and the verdict: 0, or 1 with what did not happen."""
    screen.title("what happened")
    for pipeline, summary in traded.items():
        show_summary(pipeline, summary, screen)
    for pipeline, links in walks.items():
        screen.title(f"lineage of {traded[pipeline].order_id}")
        show_links(links, settings, screen)
    wrong = verdict(traded, walks)
    if wrong:
        screen.title("not as promised")
        for text in wrong:
            screen.say(f"  [bold red]{escape(text)}[/bold red]")
    screen.say("\nnext: `make dev` opens the Dagster UI on this home (with the same DATA=, if you gave one)")
    for pipeline in traded:
        screen.say(f"      {runner_command_line(settings_of(settings, pipeline), pipeline)}")
    screen.say("      replay, halt and resume take the same words as status")
    return 1 if wrong else 0


def show_summary(pipeline: Pipeline, summary: Summary, screen: Screen) -> None:
    """The table of one pipeline's stretch and what stands beside it."""
    columns = ("bundle", "rows", "decisions", "orders", "fills", "denied", "P&L", "p50 ms", "p99 ms")
    whole = summary.whole
    title = f"{pipeline.name}: equity {summary.opening:,.2f} -> {summary.closing:,.2f}"
    screen.table(title, columns, [_row(part) for part in (*summary.parts, whole)])
    refused = "; ".join(f"{label}: {reason}" for label, reason in summary.refused) or "none"
    screen.say(f"swaps: {' -> '.join(label or 'none' for label in summary.swaps) or 'none'}; refused: {escape(refused)}")
    denied = ", ".join(f"{code} {count}" for code, count in sorted(whole.denials.items())) or "none"
    screen.say(f"denials by code: {denied}; repeated: {summary.repeated}; breaks: {len(summary.breaks)}; kill level: {summary.kill_level}")


def verdict(traded: Mapping[Pipeline, Summary], walks: Mapping[Pipeline, list[Link]]) -> list[str]:
    """What the demo promises and this run did not do, a sentence each. Empty: every row decided once by its bundle, orders explained."""
    wrong = [] if traded else ["nothing was traded: no pipeline has bars to trade"]
    for pipeline, summary in traded.items():
        wrong += [f"{pipeline.name}: {text}" for text in summary.shortcomings]
        links = walks.get(pipeline, [])
        if summary.order_id and not links:
            wrong.append(f"{pipeline.name}: the order {summary.order_id} was not explained")
        if any(link.name == NOT_RE_EXECUTED for link in links):
            wrong.append(f"{pipeline.name}: the order's decision was not decided again, code, profile or inputs changed meanwhile")
        if broken(links):
            wrong.append(f"{pipeline.name}: {len(broken(links))} links of the order {summary.order_id} are broken")
    return wrong


def runner_command_line(settings: Settings, pipeline: Pipeline) -> str:
    """`live-runner status` for the account that a pipeline trades, as a person here would type it."""
    words = [_from_here(Path(sys.executable).with_name("live-runner")), "status", "--home", _from_here(settings.home)]
    words += ["--account", settings.account, "--pipeline", pipeline.name, "--profile", settings.profile]
    return shlex.join(words)


def _from_here(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _row(part: Part) -> tuple[str, ...]:
    counts = (part.rows, part.decisions, part.orders, part.fills, sum(part.denials.values()))
    return (part.label, *(str(n) for n in counts), f"{part.pnl:,.2f}", f"{part.latency_ms(0.5):.2f}", f"{part.latency_ms(0.99):.2f}")
