"""A batch: a list of requests, one durable journal, and an outcome for each item in order of completion.

Each room has its part of the data's way, and alone changes what it keeps:

    intake      reads the list, plans it in the journal, and sends each item where its row says it stands
    dispatcher  takes planned items to the gate, one at a time, and posts those admitted
    lost        looks for submissions whose reply was lost, in the provider's list and its callbacks
    follower    knows which tasks are under way, and hears from the poller how they ended
    collector   has the saver bring finished videos, and watches over their links
    outlet      knows where videos end up: in the directory, or from there in an object store
    teller      tells listeners of all that
    run         is what they share: the stop, the outcomes, the steps under way
    door        is what users see: it opens the rooms, counts for them and closes them
    shared      is the other door: the same rooms for one of several processes, each given rows of one batch

Every step is in the journal before the next one begins, so a run that is cut anywhere goes on from there. Items under
way are known by their task id and journal key alone; whatever else is needed is read from the journal when it is
needed: thousands of tasks in flight cost a dict entry each.
"""

from wanasync.engine.batch.door import Batch
from wanasync.engine.batch.shared import SharedBatch, ShareJournal
from wanasync.engine.reading import Requests

__all__ = ["Batch", "Requests", "ShareJournal", "SharedBatch"]
