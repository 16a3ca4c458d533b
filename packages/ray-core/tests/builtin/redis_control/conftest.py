import pytest
from tests.redis_servers import RedisUnderTest


@pytest.fixture
def server(short_dir):
    """A server with an administrator."""
    server = RedisUnderTest(short_dir)
    yield server
    server.close()
