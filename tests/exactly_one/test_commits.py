"""A commit whose answer never comes leaves no save undone, doubled or stuck, though its process lives on."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from simulator.world import World
from tests.api import Api, link, row_of
from tests.exactly_one.checker import Checker, Tally
from tests.exactly_one.letters import deliver
from tests.exactly_one.steps import Moment, PostgresRelay, Steps

FILES = {"one.pdf": 3000, "two.csv": 100}


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def relay(postgres_copy: str, steps: Steps) -> Iterator[PostgresRelay]:
    url = sa.make_url(postgres_copy)
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        users = list(connection.execute(sa.text('SELECT id, tenant_id, email, c4c_user_id FROM "user"')))
    with PostgresRelay(url.port or 0, steps) as relay:
        owners = {one: email for user_id, _, email, c4c_user in users for one in (user_id, c4c_user)}
        relay.know(owners, {tenant for _, tenant, *_ in users})
        yield relay


@pytest.fixture
def database(postgres_copy: str, relay: PostgresRelay) -> str:
    """PostgreSQL with the relay before it."""
    readable = {"sslmode": "disable", "gssencmode": "disable"}
    return sa.make_url(postgres_copy).set(port=relay.port, query=readable).render_as_string(hide_password=False)


@pytest.mark.parametrize("moment", ["before", "lost"])
def test_a_save_outlives_the_loss_of_any_commits_answer(
    api: Callable[..., Api],
    world: World,
    steps: Steps,
    relay: PostgresRelay,
    work: Callable[[], None],
    forward: Callable[..., None],
    seed: object,
    count: Callable[[str, int], None],
    tell: Callable[[Tally], None],
    moment: Moment,
) -> None:
    me, checker = api(), Checker(world, seed=seed)
    tell(checker.tally)
    links = [link("account", row_of(world, "CorporateAccountCollection", Email="info@harrowgate-pumps.example"))]

    def save(number: int | None) -> int:
        """Save a message, with the connection cut at one of the commits; return how many there were."""
        letter = deliver(world, [me.person], FILES)
        relay.know({letter.key: me.person.email})
        steps.begin(me.person.email)
        if number is not None:
            steps.stand_at(me.person.email, number, moment).let_go.set()
        call = checker.asked(me.person, letter, links)
        answer = me.save(letter.item(world, me.person), links)
        checker.answered(call, answer.status_code, answer.json)
        assert answer.status_code in (201, 202, 503), answer.text
        commits = len(steps.seen(me.person.email))
        steps.clear()
        for _ in range(4):
            forward(seconds=61)
            work()
        checker.check(letter, settled=True)
        if not checker.living(letter):
            assert call.outcome == "lost"
            call = checker.asked(me.person, letter, links)
            answer = me.save(letter.item(world, me.person), links)
            checker.answered(call, answer.status_code, answer.json)
            checker.check(letter, settled=True)
        assert me.context(letter.item(world, me.person), refresh=True)["save"]["state"] == "saved"
        return commits

    save(None)  # the first one signs in
    commits = save(None)
    for number in range(commits):
        print("commit", number, "of", commits, moment)
        save(number)
    count("commits without an answer", commits)
