"""What a person does on the page of the pool, and how to wait for it."""


def chosen(page, num=None):
    """Wait until the map shows what the list counts (`num`); how many that is."""
    page.wait_for_function(
        """num => { const { drawn, chosen } = document.body.dataset;
                    return drawn === chosen && (num === null ? chosen !== undefined : chosen === num); }""",
        arg=None if num is None else str(num),
    )
    return int(page.get_attribute("body", "data-chosen"))


def lasso(page, left, top, right, bottom):
    """Draw a lasso around a part of the map, in shares of it."""
    box = page.locator("#canvas").bounding_box()
    corners = [(right, top), (right, bottom), (left, bottom), (left, top), (right, top)]
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in corners]
    page.click("#lasso-on")
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
