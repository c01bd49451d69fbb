"""A page and pictures of a sweep; reads its store, never trains."""

from jbn.report.curves import learning_curves as learning_curves
from jbn.report.page import write_page as write_page
from jbn.report.server import serve as serve
