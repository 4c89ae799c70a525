"""The simulated venues, seen through a client that shares no code with them."""
import pytest

from mantra.simulator.child import Child
from tests.end_to_end.slow_client import CLIENTS

SYMBOLS = {"binance": "ETHBTC", "bitstamp": "ethbtc"}


@pytest.fixture(scope="module")
def venues():
    with Child("--rate", "40", "--instruments", "eth-btc", "--unlimited") as child:
        yield child.endpoints


def client(endpoints, venue):
    return CLIENTS[venue](endpoints[venue], SYMBOLS[venue])


@pytest.mark.parametrize("venue", CLIENTS)
def test_a_book_spliced_as_documented_equals_the_true_book(venues, venue):
    reader = client(venues, venue)
    for _ in range(4):
        reader.pump(10)
        assert reader.equals_truth()
        assert not reader.book.crossed()
    reader.close()
